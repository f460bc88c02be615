"""Readers that never pause while values expire and are loaded again, with all tiers there or with one that hangs."""

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext

from loadtests.contenders.caching.scene import load_slowly, loads_of, readers
from loadtests.figures import Sample, percentile
from loadtests.house import House
from resilience.cache.stack import Times
from resilience.cache.tiered import TieredCache
from tests.resilience.cache.processes import all_at_once

KEYS = [f"sale:{number}" for number in range(5)]
PROCESSES, THREADS = 3, 4
FRESH_SECONDS = 2.0
#: A load takes between these.
LOAD_LEAST_SECONDS, LOAD_MOST_SECONDS = 0.02, 0.1
#: Between two reads of a thread: without it the twelve threads would measure how they take turns at two processors.
PAUSE_SECONDS = 0.002
#: So much longer than other measurements, to see more than one expiry; never longer than the harness waits for readers.
TIMES_SECONDS, SECONDS_MAXIMUM = 2, 15.0
#: The shortest time from one load of a value to the next: it may be due early, and its expiry is spread.
PERIOD_SECONDS = FRESH_SECONDS * (1 - Times.jitter) * Times.due_from


class Expiries:
    """Twelve readers in three processes; `hung` names a server that hangs from the first read on."""

    def __init__(self, house: House, hung: str = "") -> None:
        self._house = house
        self._hung = hung

    def measure(self, seconds: float) -> list[Sample]:
        seconds = min(TIMES_SECONDS * seconds, SECONDS_MAXIMUM)
        with readers(PROCESSES) as started:
            all_at_once(started, read_each, threads=1)
            with self._house.hung(self._hung) if self._hung else nullcontext():
                waits = [wait for each in all_at_once(started, keep_reading, seconds, threads=THREADS) for wait in each]
        return [
            Sample(percentile(waits, 0.99) * 1000, "ms", "p99"),
            Sample(percentile(waits, 0.999) * 1000, "ms", "p99.9"),
            Sample(max(waits) * 1000, "ms", "longest"),
            Sample(len(waits) / seconds, "reads/s", "reads"),
            Sample(max(map(most_in_a_period, loads_of(self._house, KEYS))), "loads", "most in a period"),
        ]


def most_in_a_period(times: list[float]) -> int:
    """Of moments in order, how many at most are less than a period apart."""
    return max(sum(begin <= at < begin + PERIOD_SECONDS for at in times) for begin in times)


def read_each(cache: TieredCache, index: int) -> None:
    logging.getLogger("resilience").setLevel(logging.CRITICAL)  # a tier that hangs is what is asked for
    for key in KEYS:
        _read(cache, key)


def keep_reading(cache: TieredCache, index: int, seconds: float) -> list[float]:
    """The seconds that each read took."""
    return list(_waits(cache, time.perf_counter() + seconds))


def _waits(cache: TieredCache, until: float) -> Iterator[float]:
    for key in itertools.cycle(KEYS):
        asked = time.perf_counter()
        if asked > until:
            return
        _read(cache, key)
        yield time.perf_counter() - asked
        time.sleep(PAUSE_SECONDS)


def _read(cache: TieredCache, key: str) -> None:
    cache.get_or_set(key, lambda: load_slowly(key, LOAD_LEAST_SECONDS, LOAD_MOST_SECONDS), FRESH_SECONDS)
