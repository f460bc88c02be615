"""What contenders of the cache stand on: an empty cache, readers in processes of their own, and a note of each load."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from random import uniform
from typing import Any

import redis
from django.conf import settings

from loadtests.house import House
from resilience.cache.tiered import TieredCache
from tests.resilience.cache.processes import ReaderProcess, processes

#: An offer as a page of the shop needs it: 340 bytes of JSON.
OFFER = {
    "id": 7,
    "title": "Teapot of unglazed clay, 300 ml, made by hand",
    "price_minor": 12_900,
    "usual_price_minor": 25_900,
    "currency": "EUR",
    "picture": "/static/pictures/teapot-unglazed-300.webp",
    "texts": {"en": "Keeps the warmth and the taste of many years.", "zh-hans": "紫砂壶, 手工制作, 久用愈香。"},
    "sale": "summer",
    "limit": 2,
}
#: Seconds a new reader may take to hear that it is connected to the bus.
CONNECT_SECONDS = 5.0

_numbers = itertools.count(1)


def new_location() -> str:
    """The name of a cache that nobody has filled."""
    return f"bench-{os.getpid()}-{next(_numbers)}"


def options(**more: Any) -> dict[str, Any]:
    """The shop's own, changed where a contender says so."""
    return settings.CACHES["default"]["OPTIONS"] | more


@contextmanager
def readers(
    count: int, location: str | None = None, before: Callable[..., object] | None = None, **more: Any
) -> Iterator[list[ReaderProcess]]:
    """That many processes at one empty cache with these options, each connected to all that a reader needs.

    `before(cache, index)` runs in each process first.
    """
    with processes(count, options(**more), location or new_location()) as started:
        for work in [before, meet] if before else [meet]:
            for each in started:
                each.ask(work)
            for each in started:
                each.result()
        yield started


def meet(cache: TieredCache, index: int) -> None:
    cache.get("is anybody there?")
    if not cache.stack.bus.connected.wait(CONNECT_SECONDS):
        raise TimeoutError("a reader hears nothing of the bus")


@cache
def _notes() -> redis.Redis:
    """Notes of what loaders do are kept in stock Redis: contenders stop the cache's."""
    return redis.Redis.from_url(settings.STOCK_REDIS_URL)


def load_slowly(key: str, least_seconds: float, most_seconds: float) -> dict[str, Any]:
    """A loader that takes so long and leaves a note of when it began."""
    _notes().rpush(f"loads:{key}", time.time())
    time.sleep(uniform(least_seconds, most_seconds))
    return {**OFFER, "key": key}


def loads_of(house: House, keys: Sequence[str]) -> list[list[float]]:
    """When the loads of each key began, by time.time()."""
    return [[float(at) for at in house.redis.lrange(f"loads:{key}", 0, -1)] for key in keys]
