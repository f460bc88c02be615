"""What a guard adds to each call while all is well, and what a refusal takes when it is not."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import redis
from django.conf import settings

from loadtests.figures import Sample
from loadtests.house import House
from resilience.breaker import BreakerOpen
from resilience.guard import Guard

#: Calls between two looks at the clock.
CALLS = 200
#: A call takes microseconds and varies little: an eighth of the time of other contenders is plenty.
SHARE = 8


class Calls:
    """One thread, one call after the other: a `trip` to Redis, the `guard` around nothing, and what is `refused`."""

    def __init__(self, house: House, way: str) -> None:
        self._ping = redis.Redis.from_url(settings.STOCK_REDIS_URL).ping
        self._closed = Guard("bench", at_once=1)
        self._open = Guard("bench")
        self._call: Callable[[], object] = WAYS[way].__get__(self)

    def measure(self, seconds: float) -> list[Sample]:
        self._open.breaker.force_open()
        calls, begun = 0, time.perf_counter()
        while (took := time.perf_counter() - begun) < seconds / SHARE:
            for _ in range(CALLS):
                self._call()
            calls += CALLS
        return [Sample(took / calls * 1e6, "us")]

    def _trip(self) -> None:
        self._ping()

    def _admitted(self) -> None:
        with self._closed.watching():
            pass

    def _refused(self) -> None:
        with suppress(BreakerOpen), self._open.watching():
            raise AssertionError("an open guard let a call through")


WAYS: Mapping[str, Callable[..., object]] = {
    "trip": Calls._trip,
    "guard": Calls._admitted,
    "refused": Calls._refused,
}
