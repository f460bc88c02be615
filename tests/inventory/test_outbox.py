"""The drain: in batches, once, and whatever dies."""

from collections.abc import Callable, Sequence

import pytest
import redis
from django.db import IntegrityError
from pytest_django import Settings

from inventory import _keys, effects, outbox, reservations, stock
from inventory.models import DeadEntry, Reservation, Stock
from inventory.outcomes import Wish
from shop import orders
from shop.models import Offer, Order, Sale
from tests.crowd import at_once
from tests.people import a_crowd, reservation_id


class Crash(BaseException):
    """The worker died here: nothing in it catches this."""


def hold(offer: Offer, buyers: Sequence[int]) -> list[str]:
    wishes = [Wish(reservation_id(offer), buyer) for buyer in buyers]
    reservations.reserve(offer.pk, wishes)
    return [wish.reservation_id for wish in wishes]


def counters_agree(offer: Offer) -> bool:
    levels, row = stock.levels([offer.pk])[offer.pk], Stock.objects.get(pk=offer.pk)
    assert levels is not None
    return (levels.available, levels.held, levels.sold) == (row.available, row.held, row.sold)


def test_a_held_reservation_becomes_an_order(offer: Offer, stock_redis: redis.Redis) -> None:
    """Recorded, its status tells number and deadline, its order awaits payment, and the stream is empty."""
    [reservation] = hold(offer, a_crowd(1))

    assert outbox.drain(offer.pk, orders.place) == 1

    order, standing = Order.objects.get(), reservations.look_up(offer.pk, reservation)
    assert standing is not None
    assert (order.reservation_id, order.state) == (reservation, "awaiting_payment")
    assert (standing.state, standing.order) == ("placed", order.number)
    assert standing.expires_at_ms == int(order.pay_until.timestamp() * 1000)
    assert outbox.waiting_events([offer.pk]) == {offer.pk: 0}
    assert stock_redis.xpending(_keys.events(offer.pk), _keys.GROUP)["pending"] == 0
    assert counters_agree(offer)


def test_a_thousand_events_are_drained_in_batches(
    make_sale: Callable[..., Sale], django_assert_max_num_queries: Callable[[int], object]
) -> None:
    """Twelve hundred holds cost a few statements for each batch of five hundred, none for each order."""
    offer = make_sale(quantity=1_200).offers.get()
    hold(offer, a_crowd(1_200))

    with django_assert_max_num_queries(40):
        assert outbox.drain(offer.pk, orders.place) == 1_200

    assert Order.objects.count() == 1_200
    assert counters_agree(offer)


def test_the_time_to_pay_starts_with_placed(make_sale: Callable[..., Sale]) -> None:
    """A slow drain does not eat the buyer's time: the deadline counts from the commit."""
    offer = make_sale(hold=60).offers.get()
    hold(offer, a_crowd(1))
    outbox.drain(offer.pk, orders.place)

    reservation = Reservation.objects.get()

    assert (reservation.expires_at - reservation.placed_at).total_seconds() == 60
    assert reservation.placed_at >= reservation.reserved_at


@pytest.mark.parametrize("step", ["insert_reservations", "_write_statuses", "_acknowledge"])
def test_a_crash_at_any_step_repeats_safely(
    offer: Offer, step: str, monkeypatch: pytest.MonkeyPatch, stock_redis: redis.Redis
) -> None:
    """Killed before the insert, before the statuses or before the acknowledgement, the next drain finishes the work."""
    ids = hold(offer, a_crowd(3))

    def die(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as dying:
        dying.setattr(outbox, step, die)
        with pytest.raises(Crash):
            outbox.drain(offer.pk, orders.place)
    assert outbox.drain(offer.pk, orders.place) == 3

    assert {pk: reservations.look_up(offer.pk, pk).state for pk in ids} == dict.fromkeys(ids, "placed")
    assert Order.objects.count() == 3
    assert outbox.waiting_events([offer.pk]) == {offer.pk: 0}
    assert counters_agree(offer)


def test_a_replayed_stream_changes_nothing(offer: Offer, stock_redis: redis.Redis) -> None:
    """The same event delivered ten times is one reservation, one order, one unit."""
    hold(offer, a_crowd(1))
    [(_, event)] = stock_redis.xrange(_keys.events(offer.pk))
    for _ in range(9):
        stock_redis.xadd(_keys.events(offer.pk), event)

    assert outbox.drain(offer.pk, orders.place) == 10

    assert Order.objects.count() == 1
    assert counters_agree(offer)


def test_what_a_dead_worker_claimed_is_claimed_from_it(
    offer: Offer, settings: Settings, stock_redis: redis.Redis
) -> None:
    """Events read by a consumer that never comes back are recorded by another after the claim time."""
    settings.CLAIM_AFTER_SECONDS = 0
    hold(offer, a_crowd(2))
    stock_redis.xreadgroup(_keys.GROUP, "dead", {_keys.events(offer.pk): ">"})

    assert outbox.drain(offer.pk, orders.place, consumer="alive") == 2
    assert counters_agree(offer)


def test_what_a_living_worker_claimed_is_left_to_it(offer: Offer, stock_redis: redis.Redis) -> None:
    """Before the claim time is over, another consumer takes nothing away."""
    hold(offer, a_crowd(2))
    stock_redis.xreadgroup(_keys.GROUP, "busy", {_keys.events(offer.pk): ">"})

    assert outbox.drain(offer.pk, orders.place, consumer="other") == 0


def test_many_workers_record_each_event_once(make_sale: Callable[..., Sale]) -> None:
    """Four drains at once on the same stream: every order once, counters right."""
    offer = make_sale(quantity=900).offers.get()
    hold(offer, a_crowd(900))

    drained = at_once("abcd", lambda name: outbox.drain(offer.pk, orders.place, consumer=name))

    assert sum(drained) == Order.objects.count() == 900
    assert counters_agree(offer)


def test_what_postgresql_refuses_is_told_and_goes_back_on_sale(offer: Offer, stock_redis: redis.Redis) -> None:
    """Redis has let one buyer too many in: that one is refused by the constraint, the others are recorded."""
    Stock.objects.filter(pk=offer.pk).update(quantity=2)
    ids = hold(offer, a_crowd(3))

    assert outbox.drain(offer.pk, orders.place) == 3
    effects.apply_pending()

    states = [reservations.look_up(offer.pk, pk).state for pk in ids]
    assert sorted(states) == ["placed", "placed", "refused"]
    assert Reservation.objects.filter(state="refused").count() == 1
    assert Order.objects.count() == Stock.objects.get(pk=offer.pk).held == 2
    assert stock_redis.hget(_keys.units(offer.pk), "held") == "2"


def test_a_buyer_whom_nobody_knows_is_refused_alone(offer: Offer) -> None:
    """An account that was deleted after its click does not block the orders of the others."""
    hold(offer, [*a_crowd(2), 999_999_999])

    outbox.drain(offer.pk, orders.place)

    assert sorted(Reservation.objects.values_list("state", flat=True)) == ["held", "held", "refused"]


NO_EVENTS = [
    {"type": "hold"},
    {"type": "held", "reservation": "1-x"},
    {"reservation": "x", "buyer": "7", "units": "1", "epoch": "1"},
    {"type": "held", "reservation": "OTHER-x", "buyer": "7", "units": "1", "epoch": "1"},
    {"type": "held", "reservation": "MINE-x", "buyer": "7", "units": "0", "epoch": "1"},
    {"type": "held", "reservation": "MINE-x", "buyer": "-7", "units": "1", "epoch": "1"},
    {"type": "held", "reservation": "MINE-x", "buyer": "7", "units": "nan", "epoch": "1"},
    {"type": "held", "reservation": "MINE-" + "x" * 60, "buyer": "7", "units": "1", "epoch": "1"},
]


@pytest.mark.parametrize("fields", NO_EVENTS)
def test_an_event_that_makes_no_sense_is_kept_for_a_person(
    offer: Offer, stock_redis: redis.Redis, fields: dict[str, str]
) -> None:
    """It becomes a dead event with its payload; the events before and after it are recorded."""
    fields = {name: value.replace("MINE", str(offer.pk)) for name, value in fields.items()}
    hold(offer, a_crowd(1))
    stock_redis.xadd(_keys.events(offer.pk), fields)
    hold(offer, a_crowd(1))

    assert outbox.drain(offer.pk, orders.place) == 3

    assert DeadEntry.objects.get().payload == fields
    assert Order.objects.count() == 2
    assert stock_redis.xpending(_keys.events(offer.pk), _keys.GROUP)["pending"] == 0


def test_an_order_book_that_refuses_everything_loses_nothing(offer: Offer) -> None:
    """When orders cannot be made for a whole batch, each of its buyers is told, and each unit comes back."""

    def refuse(_: object) -> dict[str, str]:
        raise IntegrityError

    ids = hold(offer, a_crowd(2))
    outbox.drain(offer.pk, refuse)
    effects.apply_pending()

    assert [reservations.look_up(offer.pk, pk).state for pk in ids] == ["refused", "refused"]
    assert counters_agree(offer)


def test_all_offers_with_events_are_drained(make_sale: Callable[..., Sale]) -> None:
    """One call records the events of every offer on the shelf."""
    offers = [make_sale().offers.get() for _ in range(3)]
    for offer in offers:
        hold(offer, a_crowd(2))

    assert outbox.drain_all(orders.place) == 6
    assert outbox.waiting_events([offer.pk for offer in offers]) == {offer.pk: 0 for offer in offers}
