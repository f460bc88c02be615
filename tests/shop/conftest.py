"""What all tests of the shop's pages need."""

from collections.abc import Callable, Iterator

import pytest
import redis
from django.db import connection
from pytest_django import Settings

from inventory import _connection
from shop import buyers, readiness


@pytest.fixture(autouse=True)
def revocations_at_rest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nobody is revoked at first, and the side thread that reads the list is done before the tables are emptied."""
    for database in {"db", "transactional_db"} & set(request.fixturenames):
        request.getfixturevalue(database)
    yield
    with buyers.revocations._asking:
        buyers.revocations.ids = frozenset()


@pytest.fixture(autouse=True)
def probes_at_rest() -> Iterator[None]:
    """Threads that a probe has started ask nobody in the next test, nor while the tables are emptied. One may have made
    a client of an address that was this test's alone."""
    yield
    readiness.watch.end()
    _connection.stock_redis.cache_clear()


@pytest.fixture
def stock_redis_away(settings: Settings, stock_redis: redis.Redis) -> Iterator[Callable[[], None]]:
    """Called, it takes stock Redis away from the shop: nobody listens at its address any more."""

    def leave() -> None:
        settings.STOCK_REDIS_URL = "unix:///nowhere/redis.sock"
        _connection.stock_redis.cache_clear()

    yield leave
    _connection.stock_redis.cache_clear()


@pytest.fixture
def database_away(transactional_db: None) -> Iterator[Callable[..., None]]:
    """Called, it takes PostgreSQL away from all threads of the shop, nobody listens at its address any more; or it
    brings it back."""
    parts, host = connection.settings_dict, connection.settings_dict["HOST"]

    def leave(is_away: bool = True) -> None:
        parts["HOST"] = "/nowhere" if is_away else host
        connection.close()

    yield leave
    leave(False)
