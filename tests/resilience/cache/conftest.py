"""Caches for the tests: each test has keys of its own."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from resilience.cache import tiered
from resilience.cache.tiered import TieredCache
from tests.crowd import PATIENCE_SECONDS
from tests.resilience.cache.own_servers import alias_of

_locations = itertools.count(1)

MakeCache = Callable[..., TieredCache]


@pytest.fixture
def location() -> Iterator[str]:
    """The name of this test's cache: no other test has its keys."""
    name = f"test-{os.getpid()}-{next(_locations)}"
    yield name
    for of_this_test in [each for each in tiered._stacks if repr(name) in each]:
        tiered._stacks.pop(of_this_test).bus.end()


@pytest.fixture
def options() -> dict[str, Any]:
    return dict(settings.CACHES["default"]["OPTIONS"])


@pytest.fixture
def patient_options(options: dict[str, Any]) -> dict[str, Any]:
    """For tests that count: no tier counts as away because this machine is busy."""
    return options | {
        "REDIS": alias_of(f"{settings.CACHE_REDIS_URL}&socket_timeout={PATIENCE_SECONDS}"),
        "MEMCACHED_TIMEOUT_SECONDS": PATIENCE_SECONDS,
    }


@pytest.fixture
def cache(location: str, patient_options: dict[str, Any]) -> TieredCache:
    """In this process, with all the time a busy machine needs."""
    return TieredCache(location, {"OPTIONS": patient_options})


@pytest.fixture
def cache_redis() -> redis.Redis:
    """A connection of the test's own to the cache's Redis."""
    return redis.Redis.from_url(settings.CACHE_REDIS_URL)
