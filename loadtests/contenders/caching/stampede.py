"""Everybody at once at keys that no tier has."""

import time
from collections.abc import Callable
from typing import Any

from django.core.cache import caches

from loadtests.contenders.caching.scene import load_slowly, loads_of, readers
from loadtests.figures import Sample, percentile
from loadtests.house import House
from resilience.cache.tiered import TieredCache
from tests.resilience.cache.processes import all_at_once

KEYS = [f"key:{number}" for number in range(20)]
PROCESSES, THREADS = 4, 50
LOAD_SECONDS = 0.1
FRESH_SECONDS = 60


class Stampede:
    """200 readers in 4 processes, each of one of 20 keys: how long they wait, and how often a key is loaded.

    `way`: through the tiers, or through Django's own `get_or_set` over the same Redis.
    """

    def __init__(self, house: House, way: str) -> None:
        self._house = house
        self._read = {"tiers": through_the_tiers, "django": through_django}[way]

    def measure(self, seconds: float) -> list[Sample]:
        with readers(PROCESSES) as started:
            waits = all_at_once(started, self._read, threads=THREADS)
        loads = [len(times) for times in loads_of(self._house, KEYS)]
        return [
            Sample(percentile(waits, 0.5) * 1000, "ms", "p50"),
            Sample(percentile(waits, 0.99) * 1000, "ms", "p99"),
            Sample(max(loads), "loads", "most of a key"),
            Sample(min(loads), "loads", "least of a key"),
        ]


def through_the_tiers(cache: TieredCache, index: int) -> float:
    return _seconds_of(cache.get_or_set, index)


def through_django(cache: TieredCache, index: int) -> float:
    return _seconds_of(caches["redis"].get_or_set, index)


def _seconds_of(get_or_set: Callable[..., Any], index: int) -> float:
    key = KEYS[index % len(KEYS)]
    asked = time.perf_counter()
    get_or_set(key, lambda: load_slowly(key, LOAD_SECONDS, LOAD_SECONDS), FRESH_SECONDS)
    return time.perf_counter() - asked
