"""What /readyz says, and to whom it says no: those who ask whether the sale can go on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis
from django.db import connection
from django.test import Client
from pytest_django import Settings

from inventory import _connection, _keys
from shop.local.servers import Running
from shop.models import Offer, Sale
from tests.crowd import eventually
from tests.full_disk import needs_file_limits, no_file_beyond
from tests.private_redis import PrivateRedis
from tests.shop import clicks

A_MINUTE_MS = 60_000


def readyz(client: Client) -> tuple[int, dict[str, object]]:
    answer = client.get("/readyz")
    said = dict(answer.json())
    assert said["ready"] is (answer.status_code == 200)
    return answer.status_code, said


@pytest.fixture
def full(stock_redis: redis.Redis) -> Iterator[None]:
    """No memory is left to stock Redis."""
    stock_redis.config_set("maxmemory", 1)
    yield
    stock_redis.config_set("maxmemory", 0)


def test_all_is_well(client: Client, offer: Offer) -> None:
    """Every part is up, or off, and nothing waits."""
    status, said = readyz(client)

    assert status == 200
    assert {said[part] for part in ("stock", "database", "cache", "recording")} == {"up"}
    assert said["memcached"] in ("up", "off")
    assert (said["waiting"], said["oldest_waiting_ms"]) == (0, 0)


def test_a_full_memory_is_not_ready(client: Client, offer: Offer, full: None) -> None:
    """It answers, so it is not down; it takes no reservation, so it is not ready. How much waits is known."""
    status, said = readyz(client)

    assert (status, said["stock"], said["recording"], said["waiting"]) == (503, "full", "up", 0)


@needs_file_limits
def test_a_full_disk_is_not_ready(
    client: Client, db: None, servers: Running, settings: Settings, tmp_path: Path
) -> None:
    """The same for a Redis that cannot write its log; it is ready again when there is room."""
    private = PrivateRedis(servers, tmp_path)
    settings.STOCK_REDIS_URL = private.url
    _connection.stock_redis.cache_clear()
    with private.running(appendfsync="everysec") as stock_redis:
        with no_file_beyond(private.log.stat().st_size, private.process.pid):
            stock_redis.set("anything", "")
            eventually(lambda: readyz(client)[1]["stock"] == "full")
        eventually(lambda: readyz(client)[1]["stock"] == "up")


def test_no_redis_is_not_ready(client: Client, db: None, stock_redis_away: Callable[[], None]) -> None:
    """Down, and what waits there is unknown rather than nothing."""
    stock_redis_away()

    status, said = readyz(client)

    assert (status, said["stock"], said["recording"], said["waiting"]) == (503, "down", "unknown", None)


def test_the_sale_goes_on_without_postgresql(
    client: Client,
    sale: Sale,
    make_shopper: Callable[[], Client],
    frozen: Callable[[str], AbstractContextManager[None]],
) -> None:
    """Ready, because units can be reserved; recording is down, and says how much waits."""
    clicks.hold(make_shopper(), sale)
    connection.close()
    with frozen("postgresql"):
        status, said = readyz(client)

    assert (status, said["stock"], said["database"], said["recording"]) == (200, "up", "down", "down")
    assert said["waiting"] == 1


def test_what_hangs_hides_nothing_else(
    client: Client, offer: Offer, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Two parts never answer: they are down by the probe's own deadline, and the others are what they are."""
    connection.close()
    with frozen("postgresql"), frozen("redis-cache"):
        status, said = readyz(client)

    assert (status, said["database"], said["cache"]) == (200, "down", "down")
    assert (said["stock"], said["waiting"]) == ("up", 0)
    assert said["memcached"] in ("up", "off")


def test_recording_that_is_behind_is_said(client: Client, offer: Offer, stock_redis: redis.Redis) -> None:
    """An event that waits for a minute: ready all the same, and its age is told."""
    at_ms = stock_redis.time()[0] * 1000 - A_MINUTE_MS
    stock_redis.xadd(_keys.events(offer.pk), {"type": "held"}, id=f"{at_ms}-0")
    stock_redis.hincrby(_keys.units(offer.pk), "waiting", 1)

    status, said = readyz(client)

    assert (status, said["recording"], said["waiting"]) == (200, "behind", 1)
    assert said["oldest_waiting_ms"] >= A_MINUTE_MS  # type: ignore[operator]


def test_what_waits_for_a_moment_is_no_trouble(client: Client, sale: Sale, make_shopper: Callable[[], Client]) -> None:
    """An event waits between every click and its drain."""
    clicks.hold(make_shopper(), sale)

    status, said = readyz(client)

    assert (status, said["recording"], said["waiting"]) == (200, "up", 1)
