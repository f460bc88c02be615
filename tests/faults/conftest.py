"""What is broken here: one world for all tests that need it, whose servers take seconds to start, a Redis alone, and a
shop behind proxies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from pytest_django import Settings

from inventory import _connection
from shop.local.servers import Running
from shop.models import Sale
from tests.faults.matrix import ROUNDS, Complaints, Scene
from tests.faults.proxied_shop import ProxiedShop, proxied_shop
from tests.faults.visits import StallMeter
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


@pytest.fixture(scope="module")
def shop(django_db_setup: None) -> Iterator[ProxiedShop]:
    with proxied_shop() as running:
        yield running


@pytest.fixture(scope="module")
def meter() -> Iterator[StallMeter]:
    with StallMeter() as ticking:
        yield ticking


@pytest.fixture
def play(
    shop: ProxiedShop, meter: StallMeter, stock_redis: redis.Redis, make_sale: Callable[..., Sale]
) -> Iterator[Callable[[str, str], Complaints]]:
    """`play(dependency, fault)`: a sale while that is broken, and healed; everything that was wrong."""
    sale = make_sale(quantity=1_000, limit=3, hold=3_600)
    unread = [make_sale() for _ in range(ROUNDS)]
    scene = Scene(shop, meter, stock_redis, sale.offers.select_related("product", "sale").get(), unread)

    def told(dependency: str, fault: str) -> Complaints:
        complaints = scene.play(dependency, fault)
        return [f"without {dependency} ({fault}):", *complaints, shop.last_words()] if complaints else []

    yield told
    shop.heal()
