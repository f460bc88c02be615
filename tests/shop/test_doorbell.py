"""Rings that wake a worker: no click waits for a broker that hangs, and it is rung again when it goes on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from inventory import doorbell
from shop import wiring
from shop.celery import app
from shop.models import Sale
from tests.conftest import Shopper
from tests.crowd import eventually
from tests.shop import clicks

Frozen = Callable[[str], AbstractContextManager[None]]
CLICKS = 5
QUEUE = "drain"


@pytest.fixture
def waiting() -> Iterator[Callable[[], int]]:
    """How many rings wait for a worker; none of earlier tests."""
    with app.connection() as connection:
        broker: Any = connection.default_channel.client
        broker.delete(QUEUE)
        yield lambda: int(broker.llen(QUEUE))
        broker.delete(QUEUE)


@pytest.fixture
def rung() -> Iterator[list[str]]:
    """What has been rung, in vain or not, by the shop's own way to its broker."""
    tried: list[str] = []

    def publish(name: str) -> None:
        try:
            wiring._publish(name)
        finally:
            tried.append(name)

    before = doorbell._bell
    doorbell.install(publish)
    yield tried
    doorbell._bell = before


def test_a_broker_that_hangs_holds_no_click(
    sale: Sale,
    make_shopper: Callable[[], Shopper],
    frozen: Frozen,
    rung: list[str],
    waiting: Callable[[], int],
) -> None:
    """All are answered before the first ring has come to an end. Once the broker goes on, one ring stands for all that
    were rung meanwhile, and the next one arrives as ever."""
    with frozen("redis-broker"):
        codes = [clicks.buy(make_shopper(), sale).status_code for _ in range(CLICKS)]
        for _ in range(CLICKS):
            doorbell.ring(doorbell.DRAIN)
        ended_meanwhile = len(rung)

    assert codes == [202] * CLICKS
    assert ended_meanwhile == 0

    eventually(waiting)
    eventually(lambda: len(rung) == 2)  # the one that hung, and one for all since
    doorbell.ring(doorbell.DRAIN)
    eventually(lambda: len(rung) == 3)
    assert waiting() == 3


def test_a_broker_that_is_away_for_long_is_rung_when_it_is_back(
    sale: Sale,
    make_shopper: Callable[[], Shopper],
    frozen: Frozen,
    rung: list[str],
    waiting: Callable[[], int],
) -> None:
    """Rings end in vain, after a while without asking; some time after it has come back, one arrives again."""
    with frozen("redis-broker"):
        eventually(lambda: doorbell.ring(doorbell.DRAIN) or len(rung) >= 2)
        assert clicks.buy(make_shopper(), sale).status_code == 202

    def rings_arrive() -> bool:
        doorbell.ring(doorbell.DRAIN)
        return waiting() > 0

    assert eventually(rings_arrive)
