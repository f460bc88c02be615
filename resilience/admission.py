"""Who may come in when not everybody can: a waiting room in front of an application that is busy.

    room = WaitingRoom(slots=4, threads=64)
    verdict = room.enter(importance=3, shard=17)
    if verdict is not Verdict.ADMITTED:
        return busy()
    try: ...
    finally: room.leave()

A place in the application is a slot. While one is free, whoever comes gets it. Otherwise the room predicts: those that
wait and matter as much, times the measured gap between two that leave, is how long it would take; each rank has a
budget for that, and whoever cannot keep it is refused at once, before any work is done for it.
"""

import math
import threading
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, fields
from enum import StrEnum

from resilience.metrics import QUEUE_DELAY, REFUSALS
from resilience.queue_figures import Figures, QueueFigures

#: Importances, from 0 (may be asked to wait) to 3 (what the service is for).
IMPORTANCES = 4
#: Parts into which the people of one importance are divided, so that load is shed by less than a whole class.
SHARDS = 128
RANKS = IMPORTANCES * SHARDS

#: Threads that may wait or work in the application; the rest refuse the others meanwhile.
THREADS_SHARE = 0.9
#: Seats that the lowest rank may use, the highest all: when the prediction errs, the unimportant feel it first. Where
#: none is left, the lowest of those who sit stands up for whoever ranks above it.
SEATS_SHARE_LEAST = 0.25
#: Weight of the newest gap: it follows a change of load within some twenty answers.
GAP_WEIGHT = 0.05
#: Seconds between two answers that are a dependency's hiccup and tell nothing of the next one.
GAP_LONGEST_SECONDS = 0.5
#: Seconds of the gap that is assumed before the first one was measured.
GAP_FIRST_SECONDS = 0.001
#: Seconds that anybody may be told to wait.
BUDGET_MAXIMUM_SECONDS = 10.0


class Verdict(StrEnum):
    """What the room says. All but the first are refusals, named as the metric names them."""

    ADMITTED = "admitted"
    #: Its turn would come too late: it was not even let wait.
    HOPELESS = "hopeless"
    #: There is no seat for its rank, or it gave its own to a higher one.
    FULL = "full"
    #: It waited, and its turn did not come in time.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds that a request may wait, by rank: from `least_seconds`, growing by the same factor from rank to rank, to
    `most_seconds`. Raises ValueError for what is no budget.

    Until a queue has stood for `burst_lasts_seconds` it is a burst, which passes by itself, and nobody's budget is less
    than `burst_seconds`: with 20 ms alone, a third of the lowest rank was refused at four fifths of the capacity.
    """

    #: About one answer of a slow application: to wait less than that is not to wait.
    least_seconds: float = 0.020
    #: With the answer's own time it stays below 300 ms, which is the promise.
    most_seconds: float = 0.250
    burst_seconds: float = 0.200
    burst_lasts_seconds: float = 0.150

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value <= BUDGET_MAXIMUM_SECONDS:  # a NaN is refused, too
                raise ValueError(f"{field.name} must be more than 0 and at most {BUDGET_MAXIMUM_SECONDS}, not {value}")
        if self.least_seconds > self.most_seconds:
            raise ValueError(f"least_seconds ({self.least_seconds}) must be at most most_seconds ({self.most_seconds})")

    def by_rank(self) -> list[float]:
        steepness = math.log(self.most_seconds / self.least_seconds) / (RANKS - 1)
        return [self.least_seconds * math.exp(steepness * rank) for rank in range(RANKS)]


#: Who waits: rank, the negative number of its coming (so that of equals the first is last in the list), its lock.
_Waiter = tuple[int, int, threading.Lock]


class WaitingRoom:
    """`slots` places in the application, and seats for those of the server's `threads` that may wait for one."""

    def __init__(self, slots: int, threads: int, budgets: Budgets | None = None, lane: str = "pages") -> None:
        if slots < 1:
            raise ValueError(f"slots must be 1 or more, not {slots}")
        if int(threads * THREADS_SHARE) <= slots:
            raise ValueError(f"threads must be more than slots ({slots}) by a tenth and one, not {threads}")
        self.slots = slots
        self._seats = int(threads * THREADS_SHARE) - slots
        self._budgets = budgets or Budgets()
        self._budget_of = self._budgets.by_rank()
        self._free = slots
        self._waiting: list[_Waiter] = []  # in the order in which they are called, from its end
        self._came = 0
        self._gave_way: set[_Waiter] = set()  # until they have heard of it
        self._queue_began = 0.0  # when the first one sat down, of a queue that stands since
        self._gap = GAP_FIRST_SECONDS
        self._gap_began = 0.0  # the last answer while all slots were taken, or when the last of them was
        self._changing = threading.Lock()
        self._figures = QueueFigures(IMPORTANCES)
        self._delays = QUEUE_DELAY.labels(lane)
        self._refusals = {
            (verdict, importance): REFUSALS.labels(lane, verdict.value, importance)
            for verdict in Verdict
            for importance in range(IMPORTANCES)
            if verdict is not Verdict.ADMITTED
        }

    # --- In and out --------------------------------------------------------------------------------------------------

    def enter(self, importance: int, shard: int, waited_seconds: float = 0.0) -> Verdict:
        """A slot, after a wait or at once, or a refusal. Whoever was admitted must `leave`.

        `waited_seconds` have gone by since the request arrived, where somebody knows: they are part of its wait. A slot
        that is free is nobody's to refuse, so a wrong clock harms only when there is a queue.
        """
        came_at = time.monotonic()
        with self._changing:
            place = self._seat(importance * SHARDS + shard, waited_seconds, came_at)
            if isinstance(place, Verdict):
                refused = place is not Verdict.ADMITTED
                delay = None if refused else waited_seconds
                self._figures.note(importance, came_at, refused=refused, delay_seconds=delay)
        if isinstance(place, Verdict):
            return self._counted(place, importance, waited_seconds)
        return self._wait(place, importance, waited_seconds, came_at)

    def leave(self) -> None:
        """The slot goes to whoever ranks highest, and of equals to the first who came."""
        now = time.monotonic()
        with self._changing:
            if not self._free:
                self._measure_gap(now)
            if self._waiting:
                self._waiting.pop()[2].release()
            else:
                self._free += 1

    # --- What is known of the queue ----------------------------------------------------------------------------------

    @property
    def gap_seconds(self) -> float:
        """Between two answers while all slots are taken: what one more waiter costs those behind it."""
        return self._gap

    @property
    def is_full(self) -> bool:
        """True while there is no free slot. Read without the lock: a hint, and old as soon as it is told."""
        return not self._free

    @property
    def waiting(self) -> int:
        """How many sit and wait."""
        return len(self._waiting)

    def figures(self, seconds: float = 1.0) -> Figures:
        """What the last second, or some, was like. For the levels: those who were refused before they came to the room
        are not in it."""
        with self._changing:
            return self._figures.over(seconds, time.monotonic())

    # --- With the lock held ------------------------------------------------------------------------------------------

    def _seat(self, rank: int, waited: float, now: float) -> Verdict | _Waiter:
        """A verdict if there is one already, else the seat on which to wait for it."""
        if self._free:
            self._free -= 1
            self._gap_began = now
            return Verdict.ADMITTED
        is_full = len(self._waiting) >= self._seats * (SEATS_SHARE_LEAST + (1 - SEATS_SHARE_LEAST) * rank / (RANKS - 1))
        if is_full and self._waiting[0][0] >= rank:
            return Verdict.FULL
        ahead = len(self._waiting) - bisect_left(self._waiting, (rank,))
        if waited + (ahead + 1) * self._gap > self._budget(rank, now):
            return Verdict.HOPELESS

        if is_full:
            self._send_away(self._waiting.pop(0))
        if not self._waiting:
            self._queue_began = now
        self._came += 1
        lock = threading.Lock()
        lock.acquire()
        waiter = (rank, -self._came, lock)
        insort(self._waiting, waiter)
        return waiter

    def _budget(self, rank: int, now: float) -> float:
        is_burst = not self._waiting or now - self._queue_began < self._budgets.burst_lasts_seconds
        return max(self._budget_of[rank], self._budgets.burst_seconds if is_burst else 0.0)

    def _measure_gap(self, now: float) -> None:
        gap, self._gap_began = now - self._gap_began, now
        if gap < GAP_LONGEST_SECONDS:
            self._gap += (gap - self._gap) * GAP_WEIGHT

    def _send_away(self, waiter: _Waiter) -> None:
        self._gave_way.add(waiter)
        waiter[2].release()

    def _verdict(self, waiter: _Waiter, *, called: bool) -> Verdict:
        if waiter in self._gave_way:
            self._gave_way.remove(waiter)
            return Verdict.FULL
        return Verdict.EXPIRED if not called and self._stands_up(waiter) else Verdict.ADMITTED

    def _stands_up(self, waiter: _Waiter) -> bool:
        """False for one that was called meanwhile: its slot is taken, and it goes in."""
        place = bisect_left(self._waiting, waiter)
        if place == len(self._waiting) or self._waiting[place] is not waiter:
            return False
        del self._waiting[place]
        return True

    # --- Without it --------------------------------------------------------------------------------------------------

    def _wait(self, waiter: _Waiter, importance: int, waited: float, came_at: float) -> Verdict:
        """Sit on the lock, which needs no GIL, until somebody leaves or the budget is used up."""
        called = waiter[2].acquire(timeout=max(0.0, self._budget(waiter[0], came_at) - waited))
        now = time.monotonic()
        delay = waited + now - came_at
        with self._changing:
            verdict = self._verdict(waiter, called=called)
            refused = verdict is not Verdict.ADMITTED
            self._figures.note(importance, now, refused=refused, delay_seconds=delay)
        return self._counted(verdict, importance, delay)

    def _counted(self, verdict: Verdict, importance: int, delay: float) -> Verdict:
        if verdict is Verdict.ADMITTED:
            self._delays.observe(delay)
        else:
            self._refusals[verdict, importance].inc()
        return verdict
