"""What is broken here: one world for all tests that need it, whose servers take seconds to start, a Redis alone, and a
shop behind proxies."""

import time
import warnings
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

#: Part of a cell's time in which something waited for a processor, from which on the machine was not ours alone.
STARVED_SHARE = 0.85


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
) -> Callable[[str, str], Complaints]:
    """`play(dependency, fault)`: a sale while that is broken, and healed; everything that was wrong."""

    def played(dependency: str, fault: str) -> Complaints:
        sale = make_sale(quantity=1_000, limit=3, hold=3_600)
        unread = [make_sale() for _ in range(ROUNDS)]
        scene = Scene(shop, meter, stock_redis, sale.offers.select_related("product", "sale").get(), unread)
        try:
            return scene.play(dependency, fault)
        finally:
            shop.heal()

    def told(dependency: str, fault: str) -> Complaints:
        """Once more, and said aloud, when something waited for a processor nearly all the time: the door refuses people
        on a machine that does nothing else than that, and breakers take its slowness for the servers'."""
        started, stalled = time.monotonic(), meter.seconds
        complaints = played(dependency, fault)
        starved = (meter.seconds - stalled) / (time.monotonic() - started)
        if complaints and starved > STARVED_SHARE:
            warnings.warn(f"played again, the machine was busy for {starved:.0%}: {complaints}", stacklevel=1)
            complaints = played(dependency, fault)
        return [f"without {dependency} ({fault}):", *complaints, shop.last_words()] if complaints else []

    return told
