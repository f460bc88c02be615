"""Who has waited too long already, for an application whose answers take microseconds.

    lateness = Lateness(Budgets(), lane="express")
    if lateness.refuses(importance, waited_seconds, shard): ...

Such an application needs no waiting room: what waits for it, waits in its server's queue, first come first served, and
the stamp of whoever took the request in tells how long. Each rank has the budget that it would have in a room. The
unimportant run out of theirs first, so the queue stays as short as the important need it.
"""

import threading
import time
from collections.abc import Callable

from resilience.admission import IMPORTANCES, SHARDS, Budgets
from resilience.metrics import QUEUE_DELAY, REFUSALS
from resilience.queue_figures import Figures, QueueFigures

#: As the metric names the refusal.
LATE = "late"


class Lateness:
    def __init__(self, budgets: Budgets | None = None, lane: str = "express") -> None:
        self._budgets = budgets or Budgets()
        self._budget_of = self._budgets.by_rank()
        self._figures = QueueFigures(IMPORTANCES)
        self._late_since = 0.0  # of a queue that stands since; none while somebody comes in time
        self._changing = threading.Lock()
        self._delays = QUEUE_DELAY.labels(lane)
        self._refusals = [REFUSALS.labels(lane, LATE, importance) for importance in range(IMPORTANCES)]

    def refuses(self, importance: int, waited_seconds: float, shard: Callable[[], int]) -> bool:
        """Whether it is too late for a request of that importance. `shard` is asked only when that decides.

        A burst, which passes by itself, is forgiven as in a room.
        """
        now = time.monotonic()
        refused = waited_seconds > self._budgets.least_seconds and waited_seconds > self._budget(
            importance * SHARDS + shard(), now
        )
        with self._changing:
            if waited_seconds <= self._budgets.least_seconds:
                self._late_since = 0.0
            elif not self._late_since:
                self._late_since = now
            self._figures.note(importance, now, refused=refused, delay_seconds=waited_seconds)
        self._delays.observe(waited_seconds)
        if refused:
            self._refusals[importance].inc()
        return refused

    def figures(self, seconds: float) -> Figures:
        """Of the last so many seconds, for whoever decides about levels."""
        with self._changing:
            return self._figures.over(seconds, time.monotonic())

    def _budget(self, rank: int, now: float) -> float:
        stands = self._late_since and now - self._late_since > self._budgets.burst_lasts_seconds
        return self._budget_of[rank] if stands else max(self._budget_of[rank], self._budgets.burst_seconds)
