"""What stands around one dependency: deadline, bulkhead, breaker, and retries that are paid for.

    provider = Guard("payment provider", at_once=8, retrying=Retrying("payment provider", on=ProviderUnavailable))
    charge = provider.call(lambda: post("/charges", timeout=deadline.timeout(3.0)))

In this order: nothing is begun when no time is left, nor when as many as may are asking already, nor when it fails
anyway. Each refusal is `Refused`: nothing was sent. `watching` is the same around a block, without retries.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar
from weakref import WeakSet

from resilience import deadline
from resilience.breaker import Breaker, BreakerOpen, Call, Errors, Thresholds
from resilience.bulkhead import Bulkhead, Full
from resilience.deadline import DeadlinePassed
from resilience.metrics import CALLS
from resilience.retry import Retrying

__all__ = ["BreakerOpen", "DeadlinePassed", "Full", "Guard", "Passage", "Thresholds", "all_of_this_process"]

#: Seconds in which a neighbour that works has answered, also next to four busy threads. What the deadline cut off
#: earlier is not held against it.
ENOUGH_SECONDS = 0.1

Result = TypeVar("Result")


class Guard:
    """`at_once` calls of this process at most; None: as many as there are threads."""

    def __init__(
        self,
        name: str,
        *,
        at_once: int | None = None,
        thresholds: Thresholds | None = None,
        retrying: Retrying | None = None,
        ignoring: Errors = (),
    ) -> None:
        """Exceptions that are `ignoring` say nothing about the dependency: it answered, if only with a no."""
        self.name = name
        self.breaker = Breaker(name, thresholds, ignoring=ignoring)
        self.bulkhead = None if at_once is None else Bulkhead(name, at_once=at_once)
        self._retrying = retrying
        self._count = {result: CALLS.labels(name, result).inc for result in RESULTS}
        _guards.add(self)

    def watching(self) -> "Passage":
        """Around one call. Raises DeadlinePassed, Full or BreakerOpen without trying, or whatever the call raised."""
        return Passage(self)

    def call(self, attempt: Callable[[], Result]) -> Result:
        """What the attempt answers, made again when it may be."""
        return self._retrying.call(lambda: self._once(attempt)) if self._retrying else self._once(attempt)

    def _once(self, attempt: Callable[[], Result]) -> Result:
        with self.watching():
            return attempt()

    def _take_place(self) -> None:
        if self.bulkhead and not self.bulkhead.enter_at_once():
            self.breaker.check()  # full, because it hangs: nobody waits for a place then
            self.bulkhead.enter()


#: Of a call, as metrics.CALLS counts them.
RESULTS = ("ok", "failed", "slow", "refused", "full", "late")


class Passage(Call):
    """One call through a guard. `failed(why)` says that it failed where no exception does."""

    __slots__ = ("_guard",)

    def __init__(self, guard: Guard) -> None:
        super().__init__(guard.breaker)
        self._guard = guard

    def __enter__(self) -> "Passage":
        guard = self._guard
        try:
            deadline.check()
            guard._take_place()
        except DeadlinePassed:
            guard._count["late"]()
            raise
        except Full:
            guard._count["full"]()
            raise
        except BreakerOpen:
            guard._count["refused"]()
            raise
        try:
            super().__enter__()
        except BaseException:
            self._leave()
            guard._count["refused"]()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_failed(kind) and not deadline.left_seconds():
            self._was_hurried()
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._leave()
        self._guard._count[self._result()]()

    def _has_failed(self, kind: type[BaseException] | None) -> bool:
        return kind is not None or self._error is not None

    def _was_hurried(self) -> None:
        """The deadline ended it. That says nothing about a dependency which was not given the time to answer."""
        if time.monotonic() - self.started_at < ENOUGH_SECONDS:
            self._ignored = True

    def _result(self) -> str:
        if self._ignored:
            return "ok" if self._error is None or deadline.left_seconds() else "late"
        if self._error is not None:
            return "failed"
        return "slow" if self.is_slow else "ok"

    def _leave(self) -> None:
        if self._guard.bulkhead:
            self._guard.bulkhead.leave()


_guards: "WeakSet[Guard]" = WeakSet()


def all_of_this_process() -> list[Guard]:
    """By name."""
    return sorted(_guards, key=lambda guard: guard.name)
