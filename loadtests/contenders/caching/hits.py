"""Hits in the memory of one process and one thread: no server is asked."""

import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.locmem import LocMemCache

from loadtests.contenders.caching.scene import OFFER, new_location, options
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample
from loadtests.house import House
from resilience.cache.tiered import TieredCache

KEYS = [f"offer:{number}" for number in range(100)]
#: Seconds that everything stays fresh, and memory answers alone: longer than any measurement.
FRESH_SECONDS = 3_600.0
#: Reads between two looks at the clock: 10 000 take a millisecond or more.
ROUNDS = 100
#: A read takes less than a microsecond and varies little: an eighth of the time of other contenders is plenty.
SHARE = 8


class DictHits:
    """The least that a cache in memory can do: a look into a dictionary and one at the clock, in the loop itself."""

    def __init__(self, house: House) -> None:
        until = time.monotonic() + FRESH_SECONDS
        self._entries = dict.fromkeys(KEYS, (OFFER, until))

    def measure(self, seconds: float) -> list[Sample]:
        return _reads_a_second(self._read, seconds)

    def _read(self) -> None:
        entries, monotonic = self._entries, time.monotonic
        for key in KEYS:
            value, until = entries[key]
            if monotonic() < until:
                _ = value


class CacheHits:
    """`get_or_set` of the tiers, with a loader, as a page calls it."""

    def __init__(self, house: House) -> None:
        self._cache = TieredCache(new_location(), {"OPTIONS": options(SOFT_SECONDS=FRESH_SECONDS)})

    def measure(self, seconds: float) -> list[Sample]:
        self._read()
        return _reads_a_second(self._read, seconds)

    def _read(self) -> None:
        get_or_set = self._cache.get_or_set
        for key in KEYS:
            get_or_set(key, _load, FRESH_SECONDS)


class LocmemHits:
    """Django's own cache in memory, which pickles, by this method."""

    def __init__(self, house: House, method: str) -> None:
        cache = LocMemCache(new_location(), {"OPTIONS": {"MAX_ENTRIES": 2 * len(KEYS)}})
        cache.set_many(dict.fromkeys(KEYS, OFFER), FRESH_SECONDS)
        self._call = getattr(cache, method)
        self._arguments = [_load, FRESH_SECONDS] if method == "get_or_set" else []

    def measure(self, seconds: float) -> list[Sample]:
        return _reads_a_second(self._read, seconds)

    def _read(self) -> None:
        call, arguments = self._call, self._arguments
        for key in KEYS:
            call(key, *arguments)


def _load() -> dict[str, Any]:
    return OFFER


def _reads_a_second(read: Callable[[], None], seconds: float) -> list[Sample]:
    watch, reads = Stopwatch(), 0
    while watch.seconds < seconds / SHARE:
        with watch.running():
            for _ in range(ROUNDS):
                read()
        reads += ROUNDS * len(KEYS)
    return [Sample(reads / watch.seconds, "reads/s")]
