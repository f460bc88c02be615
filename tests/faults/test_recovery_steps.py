"""Recoveries, changes of the stock and late receipts that meet each other half-way: found by the crash rounds."""

from collections.abc import Callable

import pytest
import redis
from pytest_django import Settings

from inventory import _keys, effects, outbox, recovery, reservations, stock
from inventory.models import Claim, Reservation, Stock, StockChange
from inventory.outcomes import Outcome, Standing, Wish
from inventory.stock import ShelfLost
from inventory.verification import findings
from resilience import failpoint
from shop import orders
from shop.models import Offer, Sale
from tests.people import a_crowd, reservation_id


@pytest.fixture(autouse=True)
def no_window(settings: Settings) -> None:
    """Claims are taken until the watcher comes by the next time."""
    settings.CLAIM_WINDOW_SECONDS = 0


def reserve(offer: Offer, count: int = 1) -> list[Outcome]:
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(count)]
    return [answer.outcome for answer in reservations.reserve(offer.pk, wishes)]


def settle_down(offer: Offer) -> None:
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()
    stock.finish_changes()
    recovery.watch(orders.place)
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()


def test_a_recovery_that_somebody_else_has_finished_is_not_done_again(offer: Offer, stock_redis: redis.Redis) -> None:
    """Two watchers see the window end; the slower one neither pauses the sale nor wipes what was sold meanwhile."""
    stock_redis.flushall()
    recovery.begin(offer.pk, 1, orders.place)
    recovery.finish(offer.pk, orders.place)
    assert reserve(offer, 3) == [Outcome.RESERVED] * 3

    line = recovery.finish(offer.pk, orders.place)

    assert "somebody else" in line
    assert Stock.objects.get(pk=offer.pk).epoch == 3
    assert reserve(offer) == [Outcome.RESERVED]
    assert outbox.drain(offer.pk, orders.place) == 4
    assert findings(offer.pk) == []


def test_units_can_be_asked_back_when_none_is_free(make_sale: Callable[..., Sale]) -> None:
    """Taking away what is not there moves nothing, and says so."""
    offer = make_sale(quantity=2).offers.get()
    reserve(offer, 2)

    change = stock.change(offer.pk, -1, reason="test", by="staff")

    assert (change.state, change.moved) == ("done", 0)
    settle_down(offer)
    assert findings(offer.pk) == []


def test_units_asked_back_during_a_recovery_wait_for_its_end(
    offer: Offer, stock_redis: redis.Redis, settings: Settings
) -> None:
    """Redis lost the last events only, and still holds the old epoch: the change is made when it is filled anew."""
    settings.CLAIM_WINDOW_SECONDS = 3_600
    recovery.begin(offer.pk, 1, orders.place)

    with pytest.raises(ShelfLost):
        stock.change(offer.pk, -5, reason="test", by="staff")
    recovery.finish(offer.pk, orders.place)
    stock.finish_changes()

    assert StockChange.objects.get(asked=-5).moved == -5
    assert stock.levels([offer.pk])[offer.pk].available == Stock.objects.get(pk=offer.pk).available == 15
    assert findings(offer.pk) == []


def test_units_given_back_to_a_redis_that_is_lost_are_given_back_again(
    offer: Offer, stock_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staff's process hangs after Redis gave the units up; a recovery fills them in again before it goes on."""

    def lose_everything(place: str) -> None:
        if place == "change.moved":
            monkeypatch.undo()
            stock_redis.flushall()
            recovery.watch(orders.place)

    monkeypatch.setattr(failpoint, "hit", lose_everything)
    change = stock.change(offer.pk, -5, reason="test", by="staff")

    assert change.moved == -5
    assert stock.levels([offer.pk])[offer.pk].quantity == Stock.objects.get(pk=offer.pk).quantity == 15
    assert findings(offer.pk) == []


def test_who_was_refused_and_clicks_again_is_refused_again(
    make_sale: Callable[..., Sale], stock_redis: redis.Redis
) -> None:
    """A receipt came too late for a unit. The same ticket finds one that is free by now, and does not keep it."""
    offer = make_sale(quantity=1).offers.get()
    [late, other] = a_crowd(2)
    wish = Wish(reservation_id(offer), late)
    [answer] = reservations.reserve(offer.pk, [wish])
    stock_redis.flushall()
    recovery.watch(orders.place)
    other_wish = Wish(reservation_id(offer), other)
    reservations.reserve(offer.pk, [other_wish])
    held = Standing(wish.reservation_id, "held", late, 1)
    recovery.claim(offer.pk, held, answer.epoch, answer.at_ms, orders.place)
    settle_down(offer)
    assert Reservation.objects.get(pk=wish.reservation_id).state == "refused"
    assert Claim.objects.get().settled_at is not None

    reservations.release(other_wish.reservation_id)
    effects.apply_pending()
    reservations.reserve(offer.pk, [wish])
    settle_down(offer)

    standing = reservations.look_up(offer.pk, wish.reservation_id)
    assert standing is not None
    assert standing.state == "refused"
    assert stock_redis.hget(_keys.units(offer.pk), "available") == "1"
    assert findings(offer.pk) == []
