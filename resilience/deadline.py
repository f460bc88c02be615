"""The moment by which an answer is wanted, known to everything that is done for it.

    with deadline.within(1.0, arrived_at_ms=stamped_by_the_edge):
        client.get(url, timeout=deadline.timeout(at_most=3.0))

Whoever asked has gone when it has passed, so what is not begun by then is not begun at all. It travels in a context
variable: what a thread does for another one has to be given its context, as `parallel` does.
"""

import math
import time
from contextvars import ContextVar, Token

from resilience.clock import now_ms
from resilience.refused import Refused

#: Seconds with less than which nothing is begun: the answer of a busy neighbour would come too late.
LEAST_SECONDS = 0.02

#: A moment of `time.monotonic()`.
_ends_at: ContextVar[float] = ContextVar("deadline", default=math.inf)


class DeadlinePassed(Refused):
    """Nobody waits for the answer any more. What was not begun will not be."""


class within:
    """Whatever is done meanwhile is wanted in so many seconds, counted from the request's arrival when that is known.

    Never later than a deadline that is set around it. Raises nothing by itself: `timeout` and `check` do.
    """

    __slots__ = ("_before", "_seconds", "_waited")

    def __init__(self, seconds: float, *, arrived_at_ms: int | None = None) -> None:
        self._seconds = seconds
        self._waited = 0.0 if arrived_at_ms is None else max(0.0, (now_ms() - arrived_at_ms) / 1000)

    def __enter__(self) -> None:
        ends_at = time.monotonic() + self._seconds - self._waited
        self._before: Token[float] = _ends_at.set(min(_ends_at.get(), ends_at))

    def __exit__(self, *_: object) -> None:
        _ends_at.reset(self._before)


def left_seconds() -> float:
    """Seconds until the deadline: none once it has passed, infinitely many when there is no deadline."""
    return max(0.0, _ends_at.get() - time.monotonic())


def timeout(at_most: float) -> float:
    """Seconds that a client may take: its own, or what is left if that is less. Raises DeadlinePassed."""
    check()
    return min(at_most, left_seconds())


def check() -> None:
    """Raises DeadlinePassed when there is no time to begin anything."""
    if left_seconds() < LEAST_SECONDS:
        raise DeadlinePassed("no time is left to begin this")
