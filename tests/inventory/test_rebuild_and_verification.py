"""Losing Redis and finding out: the checker sees each planted fault, and a rebuild puts nothing on sale twice."""

from collections.abc import Callable

import pytest
import redis

from inventory import _keys, effects, outbox, recovery, reservations, stock
from inventory.models import Effect, Reservation, Stock
from inventory.outcomes import Outcome, Wish
from inventory.stock import Shelf, ShelfLost
from inventory.verification import findings
from shop import orders
from shop import verification as money
from shop.models import Offer, Order
from tests.people import a_crowd, reservation_id


@pytest.fixture
def sold(offer: Offer) -> list[str]:
    """Four reservations: paid, placed, released, expired."""
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(4)]
    reservations.reserve(offer.pk, wishes)
    outbox.drain(offer.pk, orders.place)
    ids = [wish.reservation_id for wish in wishes]
    orders.pay(Order.objects.get(reservation=ids[0]))
    orders.cancel(Order.objects.get(reservation=ids[2]))
    Reservation.objects.filter(pk=ids[3]).update(expires_at="2020-01-01T00:00:00Z")
    reservations.expire_due(orders.expire)
    effects.apply_pending()
    return ids


def test_a_clean_sale_has_no_findings(offer: Offer, sold: list[str]) -> None:
    """Paid, placed, released and expired together keep every promise (the paid one has no payment row here)."""
    assert findings(offer.pk) == []
    assert [finding.promise for finding in money.findings(offer.pk)] == [5]


def units(**fields: int | str) -> Callable[[redis.Redis, Offer, list[str]], object]:
    return lambda client, offer, _: client.hset(_keys.units(offer.pk), mapping=fields)


PLANTED = {
    "a unit too many in Redis": (1, units(available=99)),
    "a negative counter": (1, units(available=-1, held=20)),
    "a hold that was never counted": (1, units(held=0, available=19)),
    "PostgreSQL's counter is off": (1, lambda _c, offer, _i: Stock.objects.filter(pk=offer.pk).update(held=3)),
    "a limit broken in PostgreSQL": (2, lambda _c, _o, ids: Reservation.objects.filter(pk=ids[1]).update(units=2)),
    "a buyer's units forgotten": (2, lambda client, offer, _: client.delete(_keys.buyers(offer.pk))),
    "a reservation lost in Redis": (8, lambda client, offer, ids: client.hdel(_keys.reservations(offer.pk), ids[1])),
    "a release that Redis missed": (
        8,
        lambda client, offer, ids: client.hset(_keys.reservations(offer.pk), ids[2], "placed:1:1"),
    ),
    "a quantity that the ledger does not know": (
        1,
        lambda _c, offer, _i: Stock.objects.filter(pk=offer.pk).update(quantity=21),
    ),
    "a hold before the opening": (
        3,
        lambda _c, _o, ids: Reservation.objects.filter(pk=ids[1]).update(reserved_at="2020-01-01T00:00:00Z"),
    ),
    "a unit that was held and forgotten": (8, units(taken=5)),
    "an event that nobody wrote down": (8, units(waiting=1)),
    "an effect that nobody applied": (8, lambda _c, _o, _i: Effect.objects.update(applied_at=None)),
    "all of Redis lost": (8, lambda client, _o, _i: client.flushall()),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_checker_names_the_broken_promise(
    offer: Offer, sold: list[str], stock_redis: redis.Redis, name: str
) -> None:
    """Each planted fault is found, under the promise that it breaks."""
    promise, plant = PLANTED[name]

    plant(stock_redis, offer, sold)

    assert promise in {finding.promise for finding in findings(offer.pk)}


def test_a_lost_order_is_found(offer: Offer, sold: list[str]) -> None:
    """A hold without an order, and an order that tells another state than its reservation, are findings."""
    Order.objects.filter(reservation=sold[1]).delete()
    Order.objects.filter(reservation=sold[2]).update(state="paid")

    seen = {finding.seen for finding in money.findings(offer.pk)}

    assert f"reservation {sold[1]} has no order" in seen
    assert any("is paid and its reservation released" in text for text in seen)


def test_a_lost_redis_is_not_filled_by_preheating(
    offer: Offer, sold: list[str], shelf: Shelf, stock_redis: redis.Redis
) -> None:
    """After total loss the offer stays off the shelf until it is rebuilt: buyers hear UNAVAILABLE, no second sale."""
    stock_redis.flushall()

    with pytest.raises(ShelfLost):
        stock.put_on_shelf(offer.pk, shelf)
    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7)])
    assert answer.outcome == Outcome.UNAVAILABLE


def test_a_rebuild_sells_what_is_left_and_no_more(
    offer: Offer, sold: list[str], shelf: Shelf, stock_redis: redis.Redis
) -> None:
    """Rebuilt from PostgreSQL: every status, limit and counter is back, and exactly the free units are on sale."""
    stock_redis.flushall()

    recovery.rebuild(offer.pk, orders.place)

    assert findings(offer.pk) == []
    states = [reservations.look_up(offer.pk, pk).state for pk in sold]
    assert states == ["paid", "placed", "released", "expired"]
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(20)]
    outcomes = [answer.outcome for answer in reservations.reserve(offer.pk, wishes)]
    assert outcomes == ["RESERVED"] * 18 + ["SOLD_OUT"] * 2


def test_a_rebuild_records_what_survived_in_the_stream(offer: Offer, shelf: Shelf) -> None:
    """Holds that PostgreSQL had not heard of when the rebuild began are recorded, not dropped."""
    [buyer] = a_crowd(1)
    wish = Wish(reservation_id(offer), buyer)
    reservations.reserve(offer.pk, [wish])

    recovery.rebuild(offer.pk, orders.place)

    assert reservations.look_up(offer.pk, wish.reservation_id).state == "placed"
    assert findings(offer.pk) == []


def test_an_effect_of_before_the_rebuild_changes_nothing_after_it(offer: Offer, sold: list[str], shelf: Shelf) -> None:
    """The rebuilt Redis holds its result already; applied now it would count twice."""
    reservations.release(sold[1])
    recovery.rebuild(offer.pk, orders.place)

    assert effects.apply_pending() == 1

    assert findings(offer.pk) == []


def test_a_finished_offer_is_archived(offer: Offer, stock_redis: redis.Redis) -> None:
    """With a hold open it stays; with none it leaves Redis."""
    [buyer] = a_crowd(1)
    wish = Wish(reservation_id(offer), buyer)
    reservations.reserve(offer.pk, [wish])
    assert stock.archive(offer.pk) is False
    outbox.drain(offer.pk, orders.place)
    assert stock.archive(offer.pk) is False
    reservations.release(wish.reservation_id)
    assert stock.archive(offer.pk) is False
    effects.apply_pending()

    assert stock.archive(offer.pk) is True

    assert stock_redis.dbsize() == 0
    assert findings(offer.pk) == []
