"""Cold keys, many readers, many processes: one load for each key."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import redis
from django.conf import settings

from resilience.cache.tiered import TieredCache
from tests.resilience.cache.processes import all_at_once, processes

PROCESSES = 4
KEYS = [f"key:{number}" for number in range(20)]
MORE_KEYS = [f"key:{number}" for number in range(60)]

#: Options in which a tier is dead: nobody has ever listened at these addresses.
NO_MEMCACHED = {"MEMCACHED": ["/nowhere/memcached.sock"]}
NO_REDIS = {"REDIS": "unix:///nowhere/redis.sock?db=0"}


def count_loads(counter: str, keys: Iterable[str]) -> None:
    with redis.Redis.from_url(settings.STOCK_REDIS_URL) as counting:
        for key in keys:
            counting.hincrby(counter, key)


def read_all(cache: TieredCache, index: int, counter: str) -> list[bool]:
    """Each thread begins with another key, so that all are hot at once."""

    def load(key: str) -> Any:
        count_loads(counter, [key])
        time.sleep(0.1)
        return {"key": key}

    order = KEYS[index % len(KEYS) :] + KEYS[: index % len(KEYS)]
    return [cache.get_or_set(key, lambda key=key: load(key), 60)["key"] == key for key in order]


def read_twenty_of_sixty(cache: TieredCache, index: int, counter: str) -> bool:
    """Each thread's keys overlap with the next one's, in a ring; half of the threads ask in the other direction."""

    def load_many(keys: list[str]) -> dict[str, str]:
        count_loads(counter, keys)
        time.sleep(0.03)
        return {key: f"value of {key}" for key in keys}

    wanted = [MORE_KEYS[(5 * index + number) % len(MORE_KEYS)] for number in range(20)][:: (-1) ** index]
    return cache.get_many_or_set(wanted, load_many, 60) == {key: f"value of {key}" for key in wanted}


def read_one(cache: TieredCache, _index: int, counter: str) -> str:
    def load() -> str:
        count_loads(counter, ["key"])
        return "value"

    return str(cache.get_or_set("key", load, 60))


def loads(stock_redis: redis.Redis, counter: str) -> Counter[str]:
    return Counter({key: int(times) for key, times in stock_redis.hgetall(counter).items()})


@pytest.mark.parametrize("dead", [{}, NO_MEMCACHED, NO_REDIS], ids=["all there", "no memcached", "no Redis"])
def test_two_hundred_cold_readers_load_each_key_once(location, patient_options, dead, stock_redis: redis.Redis) -> None:
    """Also with one shared tier alone: Redis keeps the leases, and while it is away memcached does."""
    with processes(PROCESSES, patient_options | dead, location) as readers:
        answers = all_at_once(readers, read_all, "loads", threads=50)

    assert all(all(each) for each in answers)
    assert loads(stock_redis, "loads") == Counter(KEYS)


def test_without_both_shared_tiers_each_process_loads_each_key_once(location, patient_options, stock_redis) -> None:
    with processes(PROCESSES, patient_options | NO_MEMCACHED | NO_REDIS, location) as readers:
        answers = all_at_once(readers, read_all, "loads", threads=50)

    assert all(all(each) for each in answers)
    assert loads(stock_redis, "loads") == Counter(KEYS * PROCESSES)


def test_overlapping_batches_load_each_key_once_and_never_wait_for_each_other_in_a_ring(
    location, patient_options, stock_redis
) -> None:
    with processes(PROCESSES, patient_options, location) as readers:
        answers = all_at_once(readers, read_twenty_of_sixty, "loads", threads=12)

    assert answers == [True] * 48
    assert loads(stock_redis, "loads") == Counter(MORE_KEYS)


def test_what_was_invalidated_while_redis_was_away_is_loaded_by_each_process_without_waiting_for_the_others(
    location, patient_options, stock_redis
) -> None:
    """memcached has a tombstone then, which takes no value: nobody finds what another process has loaded. Whoever
    waited for that would wait for one lease after the other, and in the end hear that nobody loads."""
    with processes(PROCESSES, patient_options | NO_REDIS | {"LEASE_SECONDS": 2.0}, location) as readers:
        readers[0].ask(invalidate)
        readers[0].result()

        answers = all_at_once(readers, read_one, "loads", threads=5)

    assert answers == ["value"] * PROCESSES * 5
    assert 1 <= loads(stock_redis, "loads")["key"] <= PROCESSES


def invalidate(cache: TieredCache, _index: int) -> None:
    cache.delete("key")
