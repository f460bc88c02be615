"""Restock and limits: up by PostgreSQL first, down by Redis first, each change once, the quantity their sum."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db.models import Sum

from inventory import _keys, outbox, recovery, reservations, stock
from inventory.models import BuyerUnits, Reservation, Stock, StockChange
from inventory.outcomes import AnswerLost, InventoryUnavailable, Outcome, Wish
from inventory.stock import ShelfLost
from inventory.verification import findings
from shop import orders
from shop.models import Offer, Sale
from tests.crowd import at_once
from tests.people import a_crowd, reservation_id


def hold(offer: Offer, buyer: int) -> Outcome:
    return reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])[0].outcome


def quantities(offer: Offer) -> tuple[int, int, int]:
    """PostgreSQL's, Redis's, and the sum of the ledger."""
    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    ledger = StockChange.objects.filter(stock_id=offer.pk).aggregate(total=Sum("moved"))["total"]
    return Stock.objects.get(pk=offer.pk).quantity, levels.quantity, ledger


def test_units_come(make_sale: Callable[..., Sale]) -> None:
    """A restock sells on what was sold out."""
    offer = make_sale(quantity=1).offers.get()
    first, second = a_crowd(2)
    assert [hold(offer, first), hold(offer, second)] == [Outcome.RESERVED, Outcome.SOLD_OUT]

    done = stock.change(offer.pk, 5, reason="a pallet more", by="staff")

    assert (done.state, done.moved) == ("done", 5)
    assert quantities(offer) == (6, 6, 6)
    assert hold(offer, second) == Outcome.RESERVED


def test_only_free_units_go(offer: Offer) -> None:
    """Asked for more than is free, it takes what is free and says how many."""
    for buyer in a_crowd(3):
        hold(offer, buyer)

    done = stock.change(offer.pk, -100, reason="water in the cellar", by="staff")

    assert done.moved == -17
    assert quantities(offer) == (3, 3, 3)
    outbox.drain(offer.pk, orders.place)
    assert findings(offer.pk) == []


def test_the_same_change_again_is_the_same(offer: Offer) -> None:
    """Two people press at once, or one presses twice: one change."""
    change_id = uuid.uuid4()

    done = at_once(range(8), lambda _: stock.change(offer.pk, 7, reason="r", by="s", change_id=change_id).moved)

    assert done == [7] * 8
    assert quantities(offer) == (27, 27, 27)


@pytest.mark.parametrize("units", [4, -4])
@pytest.mark.parametrize("place", ["change.asked", "change.moved"])
def test_a_change_that_dies_is_finished_later(
    offer: Offer, monkeypatch: pytest.MonkeyPatch, place: str, units: int
) -> None:
    """Between its steps Redis sells what it has and never what is not there; the sweep goes on, once."""

    def die(here: str) -> None:
        if here == place:
            raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("resilience.failpoint.hit", die)
        with pytest.raises(KeyboardInterrupt):
            stock.change(offer.pk, units, reason="r", by="s")
    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert levels.quantity <= Stock.objects.get(pk=offer.pk).quantity

    assert stock.finish_changes() == 1
    assert stock.finish_changes() == 0
    assert quantities(offer) == (20 + units, 20 + units, 20 + units)


@pytest.mark.parametrize("units", [4, -4])
def test_a_change_survives_a_loss_of_redis(offer: Offer, stock_redis: redis.Redis, units: int) -> None:
    """Asked for while Redis has lost the offer, the change waits, and counts once after the recovery."""
    stock_redis.flushall()
    with pytest.raises(ShelfLost):
        stock.change(offer.pk, units, reason="r", by="s")

    recovery.rebuild(offer.pk, orders.place)
    stock.finish_changes()

    assert quantities(offer) == (20 + units, 20 + units, 20 + units)
    assert findings(offer.pk) == []


def test_a_redis_that_hangs_leaves_the_change_pending(offer: Offer, frozen: Callable[[str], Any]) -> None:
    """The caller hears of it; later the change is made once, whether or not it had arrived."""
    with frozen("redis-stock"), pytest.raises((AnswerLost, InventoryUnavailable)):
        stock.change(offer.pk, -3, reason="r", by="s")

    stock.finish_changes()

    assert quantities(offer) == (17, 17, 17)


@pytest.mark.parametrize("units", [0, 10**12])
def test_a_change_that_makes_no_sense_is_refused(offer: Offer, units: int) -> None:
    """Nothing, and more than a number of units can be: an error, and no change."""
    with pytest.raises(ValueError, match="units"):
        stock.change(offer.pk, units, reason="r", by="s")
    assert quantities(offer) == (20, 20, 20)


def test_a_higher_limit_holds_at_once(offer: Offer) -> None:
    """Whoever had reached the limit may go on."""
    [buyer] = a_crowd(1)
    assert [hold(offer, buyer), hold(offer, buyer)] == [Outcome.RESERVED, Outcome.LIMIT_REACHED]

    stock.change_limit(offer.pk, 2)

    assert [hold(offer, buyer), hold(offer, buyer)] == [Outcome.RESERVED, Outcome.LIMIT_REACHED]
    outbox.drain(offer.pk, orders.place)
    assert Reservation.objects.filter(state="held").count() == 2
    assert findings(offer.pk) == []


def test_a_lower_limit_takes_nothing_away(make_sale: Callable[..., Sale]) -> None:
    """Who has three keeps three, and gets no fourth; a hold on its way is not refused."""
    offer = make_sale(limit=3).offers.get()
    [buyer] = a_crowd(1)
    for _ in range(3):
        assert hold(offer, buyer) == Outcome.RESERVED
    outbox.drain(offer.pk, orders.place)

    stock.change_limit(offer.pk, 1)

    assert hold(offer, buyer) == Outcome.LIMIT_REACHED
    assert BuyerUnits.objects.get().units == 3
    assert findings(offer.pk) == []


def test_a_lower_limit_refuses_no_hold_on_its_way(make_sale: Callable[..., Sale]) -> None:
    """Held under the old limit and not written down yet: it is recorded all the same."""
    offer = make_sale(limit=3).offers.get()
    [buyer] = a_crowd(1)
    for _ in range(3):
        hold(offer, buyer)

    stock.change_limit(offer.pk, 1)
    outbox.drain(offer.pk, orders.place)

    assert set(Reservation.objects.values_list("state", flat=True)) == {"held"}
    assert findings(offer.pk) == []


def test_a_buyer_over_the_limit_is_refused_by_postgresql(offer: Offer, stock_redis: redis.Redis) -> None:
    """Redis forgot what a buyer has: the second unit is refused by the constraint, told, and goes back on sale."""
    [buyer] = a_crowd(1)
    hold(offer, buyer)
    stock_redis.delete(_keys.buyers(offer.pk))
    assert hold(offer, buyer) == Outcome.RESERVED

    outbox.drain(offer.pk, orders.place)

    assert sorted(Reservation.objects.values_list("state", flat=True)) == ["held", "refused"]
    assert BuyerUnits.objects.get().units == 1


def test_units_that_come_back_free_the_limit(offer: Offer) -> None:
    """Cancelled units count neither in the buyer's row nor in the stock's."""
    [buyer] = a_crowd(1)
    hold(offer, buyer)
    outbox.drain(offer.pk, orders.place)

    reservations.release(Reservation.objects.get().pk)

    assert BuyerUnits.objects.get().units == 0
    assert Stock.objects.get(pk=offer.pk).held == 0
