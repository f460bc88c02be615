"""What is broken here: one world for all tests that need it, whose servers take seconds to start, and a Redis alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from inventory import _connection
from shop.local.servers import Running
from tests.faults.world import World
from tests.private_redis import PrivateRedis


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def private(servers: Running, tmp_path: Path, settings: Settings) -> Iterator[PrivateRedis]:
    """What the shop under test takes for its stock Redis."""
    private = PrivateRedis(servers, tmp_path)
    settings.STOCK_REDIS_URL, settings.CLAIM_WINDOW_SECONDS = private.url, 0
    _connection.stock_redis.cache_clear()
    yield private
    _connection.stock_redis.cache_clear()
