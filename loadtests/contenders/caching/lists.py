"""A list of 40 000 items over a network on which each trip takes 3 ms more."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from loadtests.contenders.caching.scene import OFFER, new_location, readers
from loadtests.figures import Sample
from loadtests.house import House
from resilience import parallel
from resilience.cache.tiered import TieredCache
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Latency

KEYS = [f"offer:{number}" for number in range(40_000)]
FRESH_SECONDS = 3_600
#: Added to each answer: servers in another building.
TRIP_MS = 3
#: Keys that are written at once before the measurement.
FILL_KEYS = 1_000
#: Single reads that are timed, and counted for all: the whole list would take two minutes.
LOOP_SAMPLE, POOL_SAMPLE = 200, 3_200


class Lists:
    """One `get_many_or_set` with nothing in process memory and everything in Redis, beside single reads one after the
    other and on the threads of `parallel`. Those leave memcached out, which would cost each of them a second trip.

    The delays are made by another process, which also passes on 15 MB; the same call without it shows its share.
    """

    def __init__(self, house: House) -> None:
        pass

    def measure(self, seconds: float) -> list[Sample]:
        location = new_location()
        _fill(location)
        [near] = _ask(location, read_list)
        with _delays() as (redis_path, memcached_path):
            before = partial(behind_delays, redis_path=redis_path)
            own = {"REDIS": "delayed", "MEMCACHED": [memcached_path]}
            [far] = _ask(location, read_list, before, **own)
            [(loop, pool)] = _ask(location, read_singly, before, **own)
        return [
            Sample(far, "s"),
            Sample(near, "s", "no delay, no proxy"),
            Sample(loop, "s", "loop"),
            Sample(pool, "s", "pool"),
            Sample(loop / len(KEYS) * 1000, "ms", "a single read"),
        ]


def _fill(location: str) -> None:
    cache = TieredCache(location, {"OPTIONS": {"REDIS": "redis", "MEMORY_ENTRIES": 1}})
    for start in range(0, len(KEYS), FILL_KEYS):
        portion = KEYS[start : start + FILL_KEYS]
        cache.set_many({key: {**OFFER, "key": key} for key in portion}, FRESH_SECONDS)


@contextmanager
def _delays() -> Iterator[tuple[str, str]]:
    """Sockets' paths before the cache's Redis and before memcached."""
    slow = Latency(down_ms=TRIP_MS)
    redis_path = urlsplit(settings.CACHE_REDIS_URL).path
    [memcached_path] = settings.CACHES["default"]["OPTIONS"]["MEMCACHED"]
    with FaultProxy(redis_path) as redis_proxy, FaultProxy(memcached_path) as memcached_proxy:
        redis_proxy.fault = memcached_proxy.fault = slow
        yield str(redis_proxy.address), str(memcached_proxy.address)


def _ask(location: str, work: Any, before: Any = None, **own: Any) -> list[Any]:
    """What a new process answers, whose memory has nothing of the list."""
    with readers(1, location, before, **own) as [reader]:
        reader.ask(work, location)
        return reader.result()


def behind_delays(cache: TieredCache, index: int, redis_path: str) -> None:
    """Tell django-redis of a second way to the same Redis, before anybody takes it."""
    settings.CACHES["delayed"] = {**settings.CACHES["redis"], "LOCATION": f"unix://{redis_path}"}


def read_list(cache: TieredCache, index: int, location: str) -> float:
    began = time.perf_counter()
    found = cache.get_many_or_set(KEYS, _nobody_loads, FRESH_SECONDS)
    elapsed = time.perf_counter() - began
    if len(found) != len(KEYS):
        raise LookupError(f"{len(KEYS) - len(found)} items are gone")
    return elapsed


def read_singly(cache: TieredCache, index: int, location: str) -> tuple[float, float]:
    """Seconds that all would take one after the other, and in a pool of threads."""
    single = TieredCache(location, {"OPTIONS": {"REDIS": "delayed"}})
    began = time.perf_counter()
    for key in KEYS[:LOOP_SAMPLE]:
        single.get(key)
    looped = time.perf_counter() - began

    parallel.map(partial(_get_each, single), KEYS[-POOL_SAMPLE:], at_once=1)  # each thread has its connection now
    began = time.perf_counter()
    parallel.map(partial(_get_each, single), KEYS[LOOP_SAMPLE : LOOP_SAMPLE + POOL_SAMPLE], at_once=1)
    pooled = time.perf_counter() - began
    return looped * len(KEYS) / LOOP_SAMPLE, pooled * len(KEYS) / POOL_SAMPLE


def _get_each(cache: TieredCache, keys: list[str]) -> list[Any]:
    return [cache.get(key) for key in keys]


def _nobody_loads(keys: list[str]) -> Mapping[str, Any]:
    raise LookupError(f"{len(keys)} items are not in Redis")
