"""Cold keys, many readers, many processes: one load for each key."""

import time
from collections import Counter
from typing import Any

import redis
from django.conf import settings

from resilience.cache.tiered import TieredCache
from tests.resilience.cache.processes import all_at_once, processes

KEYS = [f"key:{number}" for number in range(20)]


def count_load(counter: str, key: str) -> None:
    redis.Redis.from_url(settings.STOCK_REDIS_URL).hincrby(counter, key, 1)


def read_all(cache: TieredCache, index: int, counter: str) -> list[Any]:
    """Each thread begins with another key, so that all are hot at once."""

    def load(key: str) -> Any:
        count_load(counter, key)
        time.sleep(0.1)
        return {"key": key}

    order = KEYS[index % len(KEYS) :] + KEYS[: index % len(KEYS)]
    return [cache.get_or_set(key, lambda key=key: load(key), 60)["key"] == key for key in order]


def loads(stock_redis: redis.Redis, counter: str) -> Counter[str]:
    return Counter({key: int(times) for key, times in stock_redis.hgetall(counter).items()})


def test_two_hundred_cold_readers_load_each_key_once(location, options, stock_redis: redis.Redis) -> None:
    with processes(4, options, location) as readers:
        answers = all_at_once(readers, read_all, "loads", threads=50)

    assert all(all(each) for each in answers)
    assert loads(stock_redis, "loads") == Counter(KEYS)
