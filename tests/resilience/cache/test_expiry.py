"""A hot key goes stale under load: one reader loads it, and nobody waits for that."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from django.conf import settings

from resilience.cache.tiered import TieredCache
from shop.local.servers import Running
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.resilience.cache.own_servers import OwnServer
from tests.resilience.cache.processes import processes
from tests.resilience.cache.test_stampede import count_loads, loads

PROCESSES, THREADS = 3, 4
KEYS = [f"key:{number}" for number in range(5)]

FRESH_SECONDS = 0.25
#: Without chance in the times, no reader may begin the next load sooner than this after the end of the one before.
PERIOD_SECONDS = 0.8 * FRESH_SECONDS
BY_THE_CLOCK = {"JITTER": 0.0, "DUE_FROM": 0.8, "DUE_TO": 0.8, "SOFT_SECONDS": 0.05}
#: Seconds between two rounds of a reader: two cores are to load too.
ROUND_SECONDS = 0.002


def read_for(cache: TieredCache, _index: int, counter: str, seconds: float) -> set[str]:
    def load(key: str) -> str:
        count_loads(counter, [key])
        time.sleep(0.02)
        return key

    end_at, read = time.monotonic() + seconds, set()
    while time.monotonic() < end_at:
        read |= {cache.get_or_set(key, lambda key=key: load(key), FRESH_SECONDS) for key in KEYS}
        time.sleep(ROUND_SECONDS)
    return read


def test_hot_keys_are_loaded_once_a_period_for_all_processes(location, patient_options, stock_redis) -> None:
    started = time.monotonic()

    with processes(PROCESSES, patient_options | BY_THE_CLOCK, location) as readers:
        for each in readers:
            each.ask(read_for, "loads", 1.2, threads=THREADS)
        answers = [answer for each in readers for answer in each.result()]

    periods = (time.monotonic() - started) / PERIOD_SECONDS
    assert answers == [set(KEYS)] * PROCESSES * THREADS
    assert all(2 <= times <= periods + 1 for times in loads(stock_redis, "loads").values())


def load_after_the_first_by_permission(counter: str) -> Any:
    with redis.Redis.from_url(settings.STOCK_REDIS_URL, socket_timeout=None) as stock_redis:
        number = stock_redis.incr(counter)
        if number > 1:
            stock_redis.blpop(["permission"], timeout=2 * PATIENCE_SECONDS)
        return number


def read_one(cache: TieredCache, counter: str) -> int:
    time.sleep(ROUND_SECONDS)
    return int(cache.get_or_set("key", lambda: load_after_the_first_by_permission(counter), FRESH_SECONDS))


def read_while_somebody_loads(cache: TieredCache, _index: int, counter: str) -> set[int]:
    """What was read from the start to the second load, and from there until long after the first value went stale."""
    with redis.Redis.from_url(settings.STOCK_REDIS_URL) as stock_redis:
        read = {read_one(cache, counter)}
        while stock_redis.get(counter) != b"2":
            read.add(read_one(cache, counter))
    end_at = time.monotonic() + 2 * FRESH_SECONDS
    while time.monotonic() < end_at:
        read.add(read_one(cache, counter))
    return read


def read_until(cache: TieredCache, _index: int, counter: str, wanted: int) -> None:
    eventually(lambda: read_one(cache, counter) >= wanted)


def test_nobody_waits_for_a_load_while_there_is_an_old_value(location, patient_options, stock_redis) -> None:
    """The second load ends only when all readers have been answered, after as many reads as they like."""
    options = patient_options | BY_THE_CLOCK | {"LEASE_SECONDS": PATIENCE_SECONDS}
    with processes(PROCESSES, options, location) as readers:
        for each in readers:
            each.ask(read_while_somebody_loads, "loads", threads=THREADS)
        answers = [answer for each in readers for answer in each.result()]
        loaded_meanwhile = stock_redis.get("loads")
        stock_redis.rpush("permission", *range(1_000))

        for each in readers:
            each.ask(read_until, "loads", 2)
        for each in readers:
            each.result()

    assert answers == [{1}] * PROCESSES * THREADS
    assert loaded_meanwhile == "2"


def test_only_one_reader_of_a_process_waits_for_a_tier_that_hangs(servers: Running, location, options) -> None:
    """The others have the old value at once, long before the tier has answered the first one."""
    with OwnServer(servers, "memcached").running() as memcached, ThreadPoolExecutor(1) as pool:
        own = {"MEMCACHED": [str(memcached.socket)], "MEMCACHED_TIMEOUT_SECONDS": PATIENCE_SECONDS}
        cache = TieredCache(location, {"OPTIONS": options | own | {"SOFT_SECONDS": 0.05}})
        assert cache.get_or_set("key", "value", 60) == "value"
        eventually(cache.stack.bus.connected.is_set)
        assert cache.get_or_set("key", "value", 60) == "value"
        eventually(lambda: cache.stack.memory.find("key").soft_until < time.monotonic())
        memcached.freeze()

        first = pool.submit(cache.get_or_set, "key", "value", 60)
        eventually(lambda: cache.stack.flights._under_way)
        others = [cache.get_or_set("key", "another value", 60) for _ in range(100)]
        first_had_waited = not first.done()
        memcached.thaw()

    assert others == ["value"] * 100
    assert first_had_waited
    assert first.result() == "value"
