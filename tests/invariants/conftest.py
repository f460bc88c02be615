"""A small world: few events may wait, time is never waited for, and a crash is one word away."""

import signal
from collections.abc import Callable, Iterator

import pytest
import redis
from pytest_django import Settings

from inventory import outbox, recovery
from shop.local.servers import Running
from tests.crowd import eventually

pytest.register_assert_rewrite("tests.invariants.machine", "tests.invariants.both_worlds")

from tests.invariants.machine import InventoryMachine, failpoints  # noqa: E402  # after the line that makes its assertions explain
from tests.invariants.model import BATCH_EVENTS, EVENTS_MAXIMUM  # noqa: E402


@pytest.fixture
def restart_redis(servers: Running, stock_redis: redis.Redis) -> Callable[[signal.Signals], None]:
    """Ends stock Redis by a signal and starts it again with its log."""

    def restart(ending: signal.Signals) -> None:
        [post] = [post for post in servers.supervisor._posts() if post.service.name == "redis-stock"]
        assert post.child is not None
        post.child.send(ending)
        eventually(post.child.ending)
        servers.supervisor._begin(post)
        eventually(post.service.ready)
        stock_redis.config_set("appendfsync", "no")

    return restart


@pytest.fixture
def small_world(
    transactional_db: None,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    stock_redis: redis.Redis,
    restart_redis: Callable[[signal.Signals], None],
) -> Iterator[None]:
    """The settings that the model assumes. Nothing here is about the disk, so Redis does not wait for it."""
    settings.EVENTS_WAITING_MAXIMUM = EVENTS_MAXIMUM
    settings.CLAIM_WINDOW_SECONDS = settings.EVENTS_KEPT_SECONDS = settings.PAYMENT_GRACE_SECONDS = 0
    settings.CLAIM_AFTER_SECONDS = 0
    monkeypatch.setattr(outbox, "BATCH_EVENTS", BATCH_EVENTS)
    monkeypatch.setattr("resilience.failpoint.hit", failpoints.hit)
    monkeypatch.setattr(InventoryMachine, "restart_redis", staticmethod(restart_redis), raising=False)
    monkeypatch.setattr(recovery.logger, "disabled", True)
    stock_redis.config_set("appendfsync", "no")
    yield
    stock_redis.config_set("appendfsync", "always")
