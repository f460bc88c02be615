"""A circuit breaker around calls that other threads make at the same moment.

pybreaker keeps the state and counts the failures. It holds its lock while it makes a call, so that eight threads of 50
ms each would take 400 ms: here the call is made outside, and only what came of it is reported."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import uniform

import pybreaker

from resilience.refused import Refused

#: Failures in a row after which nobody tries any more.
FAILURES_MAXIMUM = 3
#: Seconds until somebody tries again; 20 % more or less, so that processes do not try all at the same moment.
REST_SECONDS = 1.0
REST_SPREAD = 0.2
#: Seconds until pybreaker would let somebody try by itself, with anybody else at once: that is decided here.
NEVER = 10**9

logger = logging.getLogger(__name__)


class BreakerOpen(Refused):
    """It failed just now, and was not tried again. Nothing was sent."""


class Breaker:
    """`with breaker.watching(): call()`: counts what the call raises, and refuses calls that would fail anyway."""

    def __init__(
        self, name: str, *, failures_maximum: int = FAILURES_MAXIMUM, rest_seconds: float = REST_SECONDS
    ) -> None:
        self.name = name
        self._rest_seconds = rest_seconds
        self._state = pybreaker.CircuitBreaker(fail_max=failures_maximum, reset_timeout=NEVER, listeners=[_Aloud(name)])
        self._next_try_at = 0.0
        self._choosing = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return bool(self._state.current_state == pybreaker.STATE_CLOSED)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises BreakerOpen without trying, or whatever the call raised."""
        if not self._admits():
            raise BreakerOpen(self.name)
        try:
            yield
        except Exception as error:
            self._failed(error)
            raise
        else:
            self._succeeded()

    def _admits(self) -> bool:
        """Everybody while it is closed; afterwards one caller each time the rest is over."""
        if self.is_closed:
            return True
        with self._choosing:
            if time.monotonic() < self._next_try_at:
                return False
            self._rest()
        return True

    def _rest(self) -> None:
        spread = uniform(1 - REST_SPREAD, 1 + REST_SPREAD)
        self._next_try_at = time.monotonic() + self._rest_seconds * spread

    def _failed(self, error: Exception) -> None:
        if self.is_closed:
            with suppress(Exception):  # pybreaker raises it again
                self._state.call(_raise, error)
            if not self.is_closed:
                self._rest()

    def _succeeded(self) -> None:
        if not self.is_closed:
            self._state.close()
        elif self._state.fail_counter:
            self._state.call(_nothing)


def _raise(error: Exception) -> None:
    raise error


def _nothing() -> None:
    pass


class _Aloud(pybreaker.CircuitBreakerListener):
    """A line when it opens and one when it closes; what it refused in between is not worth one each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._why: BaseException | None = None

    def failure(self, _breaker: pybreaker.CircuitBreaker, error: BaseException) -> None:
        self._why = error

    def state_change(self, _breaker: pybreaker.CircuitBreaker, _old: object, new: object) -> None:
        if new.name == pybreaker.STATE_OPEN:  # type: ignore[attr-defined]
            logger.error("%s fails and is left alone: %s", self._name, self._why)
        elif new.name == pybreaker.STATE_CLOSED:  # type: ignore[attr-defined]
            logger.warning("%s works again", self._name)
