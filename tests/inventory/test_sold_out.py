"""The memory of sold out: what it may answer, and what it must ask."""

from collections.abc import Callable

import pytest
import redis

from inventory import _keys, reservations, sold_out
from inventory.outcomes import Outcome, Wish
from resilience.clock import now_ms
from shop.models import Offer, Sale
from tests.crowd import eventually
from tests.people import reservation_id

#: Milliseconds: later than any difference of clocks that is allowed for.
MUCH_LATER_MS = 10 * sold_out.CLOCKS_DIFFER_MS


@pytest.fixture
def last_one(make_sale: Callable[..., Sale]) -> Offer:
    """An offer whose only unit has just been held."""
    offer: Offer = make_sale(quantity=1).offers.get()
    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7)])
    assert answer.outcome is Outcome.RESERVED
    return offer


@pytest.fixture(autouse=True)
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause of this machine is longer than the memory."""
    monkeypatch.setattr(sold_out, "MEMORY_SECONDS", 60)
    sold_out.forget()


def test_a_later_ticket_finds_nothing(last_one: Offer) -> None:
    """Once somebody has looked, a ticket from after the last hold is answered without Redis."""
    later = now_ms() + MUCH_LATER_MS
    assert not sold_out.is_remembered(last_one.pk, later)

    sold_out.learn(last_one.pk)

    assert sold_out.is_remembered(last_one.pk, later)


def test_an_older_ticket_is_asked_for(last_one: Offer) -> None:
    """It may name the very reservation that took the last unit, also when the clocks differ a little."""
    sold_out.learn(last_one.pk)

    assert not sold_out.is_remembered(last_one.pk, now_ms() - 5)
    assert not sold_out.is_remembered(last_one.pk, now_ms() + sold_out.CLOCKS_DIFFER_MS // 2)


def test_the_memory_ends(last_one: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sold_out, "MEMORY_SECONDS", 0.05)
    later = now_ms() + MUCH_LATER_MS

    sold_out.learn(last_one.pk)

    eventually(lambda: not sold_out.is_remembered(last_one.pk, later))


def test_units_that_are_left_are_no_memory(offer: Offer) -> None:
    """Somebody who wished for more than was left heard SOLD_OUT; others may buy."""
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7)])

    sold_out.learn(offer.pk)

    assert not sold_out.is_remembered(offer.pk, now_ms() + MUCH_LATER_MS)


def test_a_hold_after_others_came_back_moves_the_moment(last_one: Offer, stock_redis: redis.Redis) -> None:
    """A unit that came back and was held again has a ticket from between: that one is asked for."""
    units = _keys.units(last_one.pk)
    stock_redis.hset(units, mapping={"available": 1, "held": 0, "granted_at_ms": now_ms() - MUCH_LATER_MS})
    between = now_ms() - MUCH_LATER_MS // 2
    reservations.reserve(last_one.pk, [Wish(reservation_id(last_one), 8)])

    sold_out.learn(last_one.pk)

    assert not sold_out.is_remembered(last_one.pk, between)


def test_nothing_known_is_no_memory(last_one: Offer, stock_redis: redis.Redis) -> None:
    """Counters that were installed anew do not say when the last unit was held."""
    stock_redis.hdel(_keys.units(last_one.pk), "granted_at_ms")

    sold_out.learn(last_one.pk)

    assert not sold_out.is_remembered(last_one.pk, now_ms() + MUCH_LATER_MS)


def test_one_look_for_each_memory(last_one: Offer, stock_redis: redis.Redis) -> None:
    """Of a thousand who hear SOLD_OUT, one looks."""
    sold_out.learn(last_one.pk)
    before = stock_redis.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]

    for _ in range(1_000):
        sold_out.learn(last_one.pk)

    assert stock_redis.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"] == before
