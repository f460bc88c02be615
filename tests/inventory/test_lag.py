"""How far PostgreSQL is behind, as Redis alone can tell."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import redis

from inventory import _keys, outbox, reservations
from inventory.lag import Lag, lag
from inventory.outcomes import InventoryUnavailable, Wish
from shop import orders
from shop.models import Offer, Sale
from tests.crowd import eventually
from tests.people import a_crowd, reservation_id

A_MINUTE_MS = 60_000


def hold(offer: Offer, count: int) -> None:
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in a_crowd(count)])


def test_nothing_waits(offer: Offer) -> None:
    """Neither on an empty Redis nor where all is recorded."""
    assert lag() == Lag(0, 0)

    hold(offer, 3)
    outbox.drain(offer.pk, orders.place)

    assert lag() == Lag(0, 0)


def test_events_of_all_offers_count(make_sale: Callable[..., Sale]) -> None:
    """The sum of them, and the age of the oldest of all."""
    first, second, _ = (make_sale().offers.get() for _ in range(3))
    hold(first, 3)
    eventually(lambda: lag().oldest_ms >= 100)
    hold(second, 2)

    behind = lag()

    assert behind.events == 5
    assert behind.oldest_ms >= 100
    outbox.drain(first.pk, orders.place)
    assert lag().events == 2


def test_the_oldest_is_what_was_read_and_not_acknowledged(offer: Offer, stock_redis: redis.Redis) -> None:
    """A worker that died with an event in its hands makes us older than what came after it, and a new one as well."""
    hold(offer, 1)
    stock_redis.xreadgroup(_keys.GROUP, "dead", {_keys.events(offer.pk): ">"})
    eventually(lambda: lag().oldest_ms >= 100)
    hold(offer, 1)

    assert lag().events == 2
    assert lag().oldest_ms >= 100


def test_what_is_recorded_does_not_age(offer: Offer, stock_redis: redis.Redis) -> None:
    """An acknowledged event stays in the stream for a while; only what waits counts."""
    old_ms = stock_redis.time()[0] * 1000 - A_MINUTE_MS
    stock_redis.xadd(_keys.events(offer.pk), {"type": "of another time"}, id=f"{old_ms}-0")
    stock_redis.xreadgroup(_keys.GROUP, "worker", {_keys.events(offer.pk): ">"})
    stock_redis.xack(_keys.events(offer.pk), _keys.GROUP, f"{old_ms}-0")
    hold(offer, 1)

    assert lag().events == 1
    assert lag().oldest_ms < A_MINUTE_MS


def test_a_stream_without_its_readers_is_old_from_its_beginning(offer: Offer, stock_redis: redis.Redis) -> None:
    """The group was lost: nobody has read any of it."""
    hold(offer, 2)
    stock_redis.xgroup_destroy(_keys.events(offer.pk), _keys.GROUP)

    assert lag().events == 2


def test_a_redis_that_hangs_is_no_answer(frozen: Callable[[str], AbstractContextManager[None]]) -> None:
    """Nobody knows, and nobody says that nothing waits."""
    with frozen("redis-stock"), pytest.raises(InventoryUnavailable):
        lag()
