"""What /readyz says, and to whom it says no: those who ask whether the sale can go on."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from inventory import _connection, _keys
from resilience import breaker
from shop import readiness
from shop.local.servers import Running
from shop.models import Offer, Sale
from tests.crowd import eventually
from tests.full_disk import needs_file_limits, no_file_beyond
from tests.private_redis import PrivateRedis
from tests.shop import clicks

A_MINUTE_MS = 60_000


def readyz(client: Client) -> tuple[int, dict[str, Any]]:
    answer = client.get("/readyz")
    said = dict(answer.json())
    assert said["ready"] is (answer.status_code == 200)
    return answer.status_code, said


def says(client: Client, status: int, **facts: object) -> dict[str, Any]:
    """What it says as soon as it says this; it never asks by itself, so it needs a moment to hear."""

    def said() -> dict[str, Any]:
        found, words = readyz(client)
        return words if found == status and facts.items() <= words.items() else {}

    return eventually(said)


@pytest.fixture
def full(stock_redis: redis.Redis) -> Iterator[None]:
    """No memory is left to stock Redis."""
    stock_redis.config_set("maxmemory", 1)
    yield
    stock_redis.config_set("maxmemory", 0)


def test_all_is_well(client: Client, offer: Offer) -> None:
    """Every part is up, or off, and nothing waits."""
    parts = {
        "stock": "up",
        "database": "up",
        "cache": "up",
        "memcached": "up" if django_settings.MEMCACHED_URLS else "off",
    }
    said = says(client, 200, **parts, recording="up", waiting=0, oldest_waiting_ms=0)

    assert said["level"] == "NORMAL"
    assert 0 <= said["age_ms"] <= readiness.STALE_SECONDS * 1000
    assert set(said["breakers"]) == {each.name for each in breaker.all_of_this_process()}


def test_before_anybody_was_heard_it_is_not_ready(
    client: Client, db: None, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Who starts a process waits for its first yes; the first question is what makes it ask."""
    with frozen("redis-stock"):
        status, said = readyz(client)

    assert (status, said["stock"], said["recording"], said["age_ms"]) == (503, "unknown", "unknown", None)


def test_a_probe_asks_no_server(
    client: Client, offer: Offer, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """All servers hang, and what was heard before is still the answer, at once; it sends no query of its own."""
    says(client, 200)

    with frozen("redis-stock"), frozen("postgresql"), frozen("redis-cache"), CaptureQueriesContext(connection) as asked:
        said = readyz(client)[1]
        assert client.get("/livez").content == b'{"alive": true}'

    assert said["stock"] == "up"
    assert len(asked) == 0


def test_knowledge_that_grows_old_is_none(client: Client, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads have died of something that nobody foresaw: it says that it does not know, and is not ready."""
    says(client, 200)
    parts = readiness.watch.parts()
    for part in parts.values():
        part.end()
    monkeypatch.setattr(readiness, "STALE_SECONDS", -1.0)

    status, said = readyz(client)

    assert (status, said["stock"], said["database"], said["age_ms"]) == (503, "unknown", "unknown", None)


def test_a_forked_child_asks_for_itself(client: Client, offer: Offer) -> None:
    """It has none of its parent's threads, and says nothing from hearsay."""
    says(client, 200)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not readiness.watch._parts else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_machine_that_drains_is_not_ready(client: Client, offer: Offer, settings: Settings, tmp_path: Path) -> None:
    """Whoever is about to stop it says so with a file; without the file it is back."""
    settings.STATE = tmp_path
    says(client, 200, draining=False)

    (tmp_path / readiness.DRAINING).touch()
    says(client, 503, draining=True, stock="up")

    (tmp_path / readiness.DRAINING).unlink()
    says(client, 200, draining=False)


def test_a_full_memory_is_not_ready(client: Client, offer: Offer, full: None) -> None:
    """It answers, so it is not down; it takes no reservation, so it is not ready. How much waits is known."""
    says(client, 503, stock="full", recording="up", waiting=0)


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

    says(client, 503, stock="down", recording="unknown", waiting=None)


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
        says(client, 200, stock="up", database="down", recording="down", waiting=1)


def test_what_hangs_hides_nothing_else(
    client: Client, offer: Offer, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Two parts never answer: they are down when they are late, and the others are what they are."""
    connection.close()
    with frozen("postgresql"), frozen("redis-cache"):
        said = says(client, 200, database="down", cache="down", stock="up", waiting=0)

    assert said["memcached"] in ("up", "off")


def test_recording_that_is_behind_is_said(client: Client, offer: Offer, stock_redis: redis.Redis) -> None:
    """An event that waits for a minute: ready all the same, and its age is told."""
    at_ms = stock_redis.time()[0] * 1000 - A_MINUTE_MS
    stock_redis.xadd(_keys.events(offer.pk), {"type": "held"}, id=f"{at_ms}-0")
    stock_redis.hincrby(_keys.units(offer.pk), "waiting", 1)

    said = says(client, 200, recording="behind", waiting=1)

    assert said["oldest_waiting_ms"] >= A_MINUTE_MS


def test_what_waits_for_a_moment_is_no_trouble(client: Client, sale: Sale, make_shopper: Callable[[], Client]) -> None:
    """An event waits between every click and its drain."""
    clicks.hold(make_shopper(), sale)

    says(client, 200, recording="up", waiting=1)
