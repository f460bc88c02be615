"""Trying again, without making an outage worse.

    asking = Retrying("payment provider", on=ProviderUnavailable, budget=Budget("payment provider"))
    charge = asking.call(lambda: ask("POST", "/charges", wanted))

The caller names what may be tried again, and sees to it that doing it twice does no harm. What is `Refused` is never
tried again, even when its class is also one of those named. Three attempts of everybody would triple the load of
whatever is down, so retries are paid for by successes, ten for one: in a full outage there soon are none.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from random import uniform
from typing import Any, TypeVar
from weakref import WeakSet

from resilience import deadline
from resilience.metrics import RETRIES, RETRY_BUDGET
from resilience.refused import Refused

#: The most attempts that anybody may configure: the third one helps one call in a thousand when one in ten fails.
ATTEMPTS_MAXIMUM = 3

Result = TypeVar("Result")
Errors = type[Exception] | tuple[type[Exception], ...]

#: True while an attempt of a caller further out is under way.
_inside: ContextVar[bool] = ContextVar("inside a retry", default=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """How often, and how long after a failure. Pauses are drawn from nothing up to a bound that doubles (full jitter):
    callers that failed at the same moment must not come back at the same moment."""

    attempts: int = ATTEMPTS_MAXIMUM
    #: The bound of the first pause: enough for a restarted neighbour to take connections again.
    pause_seconds: float = 0.05
    #: No bound is higher: somebody waits meanwhile.
    pause_maximum_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= ATTEMPTS_MAXIMUM:
            raise ValueError(f"attempts must be from 1 to {ATTEMPTS_MAXIMUM}, not {self.attempts}")
        if not 0 <= self.pause_seconds <= self.pause_maximum_seconds:
            raise ValueError(f"no pause is from {self.pause_seconds} to {self.pause_maximum_seconds} seconds")

    def pause_after(self, failures: int) -> float:
        return uniform(0, min(self.pause_maximum_seconds, self.pause_seconds * 2 ** (failures - 1)))


class Budget:
    """What the retries of one dependency may cost in this process. Full at first, so that a young process may retry."""

    def __init__(self, dependency: str, *, successes_for_one: int = 10, retries_maximum: int = 10) -> None:
        if successes_for_one < 1 or retries_maximum < 0:
            raise ValueError(f"no budget: {successes_for_one} successes for a retry, {retries_maximum} at most")
        self._price = successes_for_one
        self._most = self._credit = retries_maximum * successes_for_one  # in successes: whole numbers add up exactly
        self._retries, self._shown = RETRIES.labels(dependency), RETRY_BUDGET.labels(dependency)
        self._make_lock()
        _budgets.add(self)

    def _make_lock(self) -> None:
        """Also in a forked child, where whoever held it does not exist, and whose numbers begin at nought."""
        self._changing = threading.Lock()
        self._shown.set(self.retries_left)

    @property
    def retries_left(self) -> int:
        return self._credit // self._price

    def earn(self) -> None:
        """A call has worked. A budget that is full stays so, and costs nothing to look at."""
        if self._credit == self._most:
            return
        with self._changing:
            self._credit = min(self._most, self._credit + 1)
            if self._credit % self._price == 0:
                self._shown.set(self.retries_left)

    def spend(self) -> bool:
        """Pay for one retry, before the pause that comes before it; False when there is not enough."""
        with self._changing:
            if self._credit < self._price:
                return False
            self._credit -= self._price
            self._retries.inc()
            self._shown.set(self.retries_left)
            return True


class Retrying:
    """Calls to one dependency, which share a budget."""

    def __init__(
        self, dependency: str, *, on: Errors, policy: Policy | None = None, budget: Budget | None = None
    ) -> None:
        self.dependency = dependency
        self.budget = budget or Budget(dependency)
        self._on = on
        self._policy = policy or Policy()

    def call(self, attempt: Callable[[], Result]) -> Result:
        """What the attempt answers; raises what the last one raised.

        An attempt inside another one's is made once: three times three would be nine. None begins after the deadline.
        """
        if _inside.get():
            return attempt()
        token = _inside.set(True)
        try:
            return self._until_it_works(attempt)
        finally:
            _inside.reset(token)

    def _until_it_works(self, attempt: Callable[[], Result]) -> Result:
        for failures in itertools.count(1):
            try:
                result = attempt()
            except self._on as error:
                pause = self._policy.pause_after(failures)
                if not self._may_try_again(error, failures, pause):
                    raise
                time.sleep(pause)
            else:
                self.budget.earn()
                return result
        raise AssertionError("nobody counts that far")

    def _may_try_again(self, error: Exception, failures: int, pause: float) -> bool:
        return (
            not isinstance(error, Refused)
            and failures < self._policy.attempts
            and pause + deadline.LEAST_SECONDS < deadline.left_seconds()
            and self.budget.spend()
        )


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """The same for a task of a queue, which is not waited for by anybody: its pauses are whole seconds."""

    retries: int
    pause_seconds: int = 1
    pause_maximum_seconds: int = 60

    def __post_init__(self) -> None:
        if self.retries < 0 or not 1 <= self.pause_seconds <= self.pause_maximum_seconds:
            raise ValueError(f"no policy: {self}")

    def options(self, on: Errors) -> dict[str, Any]:
        """As keywords of Celery's `shared_task`, which this package does not know."""
        return {
            "autoretry_for": (on if isinstance(on, tuple) else (on,)) if self.retries else (),
            "dont_autoretry_for": (Refused,),
            "max_retries": self.retries,
            "retry_backoff": self.pause_seconds,
            "retry_backoff_max": self.pause_maximum_seconds,
            "retry_jitter": True,
        }


_budgets: WeakSet[Budget] = WeakSet()


def _make_locks_in_a_fork() -> None:
    for budget in list(_budgets):
        budget._make_lock()


os.register_at_fork(after_in_child=_make_locks_in_a_fork)
