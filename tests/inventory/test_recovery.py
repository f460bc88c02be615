"""Stock Redis went back in time: it is noticed, buyers are heard, and nothing is sold twice."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db import connection
from pytest_django import Settings

from inventory import _keys, effects, outbox, recovery, reservations, stock
from inventory.models import Claim, Reservation, Stock
from inventory.outbox import OtherEpoch
from inventory.outcomes import InventoryUnavailable, Outcome, Standing, Wish
from inventory.verification import findings
from shop import orders
from shop.models import Offer, Order, Sale
from tests.people import a_crowd, reservation_id

Receipt = tuple[Standing, int, int]


@pytest.fixture(autouse=True)
def no_window(settings: Settings) -> None:
    """Claims are taken until the watcher comes by the next time."""
    settings.CLAIM_WINDOW_SECONDS = 0


def holds(offer: Offer, count: int) -> list[Receipt]:
    """Reservations of so many new buyers, each with what its receipt says."""
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(count)]
    answers = reservations.reserve(offer.pk, wishes)
    assert {answer.outcome for answer in answers} == {Outcome.RESERVED}
    return [
        (Standing(wish.reservation_id, "held", wish.buyer_id, wish.units), answer.epoch, answer.at_ms)
        for wish, answer in zip(wishes, answers, strict=True)
    ]


def recorded(offer: Offer, count: int) -> list[Receipt]:
    held = holds(offer, count)
    outbox.drain(offer.pk, orders.place)
    return held


def show(offer: Offer, receipts: list[Receipt]) -> None:
    for standing, epoch, at_ms in receipts:
        recovery.claim(offer.pk, standing, epoch, at_ms, orders.place)


def states(receipts: list[Receipt]) -> list[str]:
    found = dict(Reservation.objects.values_list("pk", "state"))
    return [found.get(standing.reservation_id, "unknown") for standing, _, _ in receipts]


def watch() -> list[int]:
    return recovery.watch(orders.place)


def test_a_healthy_redis_is_left_alone(offer: Offer) -> None:
    """Whatever has been sold, recorded or not, a Redis that knows it all is not recovered."""
    recorded(offer, 2)
    holds(offer, 2)

    assert watch() == []
    assert Stock.objects.get(pk=offer.pk).epoch == 1


def cut_the_stream(client: redis.Redis, offer: Offer) -> None:
    """What a torn append-only file leaves: the last event never was."""
    [(first, _), *_] = client.xrange(_keys.events(offer.pk))
    client.delete(_keys.events(offer.pk))
    client.xgroup_create(_keys.events(offer.pk), _keys.GROUP, id="0", mkstream=True)
    client.execute_command("XSETID", _keys.events(offer.pk), first)


LOSSES: dict[str, Callable[[redis.Redis, Offer], object]] = {
    "everything": lambda client, _: client.flushall(),
    "the counters": lambda client, offer: client.delete(_keys.units(offer.pk)),
    "the stream": lambda client, offer: client.delete(_keys.events(offer.pk)),
    "the last events": cut_the_stream,
    "the epoch": lambda client, offer: client.hset(_keys.units(offer.pk), "epoch", 7),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_noticed_and_the_sale_comes_back_by_itself(offer: Offer, stock_redis: redis.Redis, loss: str) -> None:
    """Two looks of the watcher: the first ends the epoch, the second sells on with exactly what is left."""
    before = recorded(offer, 5)

    LOSSES[loss](stock_redis, offer)

    assert watch() == []  # the window is empty: begun and finished
    assert states(before) == ["held"] * 5
    assert findings(offer.pk) == []
    outcomes = [
        answer.outcome
        for answer in reservations.reserve(offer.pk, [Wish(reservation_id(offer), b) for b in a_crowd(16)])
    ]
    assert (outcomes.count(Outcome.RESERVED), outcomes.count(Outcome.SOLD_OUT)) == (15, 1)
    outbox.drain(offer.pk, orders.place)
    assert findings(offer.pk) == []
    assert watch() == []


def test_nothing_is_sold_while_receipts_are_taken(offer: Offer, stock_redis: redis.Redis, settings: Settings) -> None:
    """During the window a buyer hears that the sale is paused, and staff can still pause or close it."""
    settings.CLAIM_WINDOW_SECONDS = 3_600
    recorded(offer, 1)
    stock_redis.flushall()

    assert watch() == [offer.pk]

    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7)])
    assert answer.outcome == Outcome.UNAVAILABLE
    assert stock.put_on_shelf(offer.pk, stock.Shelf("paused", 0, 1)) == "RECOVERING"
    assert watch() == [offer.pk]


def test_receipts_count_after_a_total_loss(offer: Offer, stock_redis: redis.Redis, settings: Settings) -> None:
    """Holds that were never written down become orders when their buyers show the receipts in time."""
    settings.CLAIM_WINDOW_SECONDS = 3_600
    old, lost = recorded(offer, 2), holds(offer, 3)
    stock_redis.flushall()
    watch()

    show(offer, lost)
    show(offer, lost[:1])  # a poll comes every second
    recovery.finish(offer.pk, orders.place)

    assert states(old + lost) == ["held"] * 5
    assert Order.objects.count() == 5
    assert Claim.objects.filter(settled_at=None).count() == 0
    assert findings(offer.pk) == []
    assert stock.levels([offer.pk])[offer.pk].available == 15


def test_a_receipt_alone_is_proof_of_a_loss(offer: Offer, stock_redis: redis.Redis) -> None:
    """Redis lost holds that no drain had seen, and looks healthy to the watcher: the first poll tells otherwise."""
    [lost] = holds(offer, 1)
    LOST = lost[0].reservation_id
    stock_redis.hdel(_keys.reservations(offer.pk), LOST)
    stock_redis.hdel(_keys.buyers(offer.pk), str(lost[0].buyer_id))
    stock_redis.hincrby(_keys.units(offer.pk), "available", 1)
    stock_redis.hincrby(_keys.units(offer.pk), "held", -1)
    stock_redis.xtrim(_keys.events(offer.pk), maxlen=0)
    assert watch() == []

    show(offer, [lost])

    watch()
    assert states([lost]) == ["held"]
    assert Stock.objects.get(pk=offer.pk).epoch == 3
    assert findings(offer.pk) == []


def test_the_earliest_receipts_win_when_units_are_short(
    make_sale: Callable[..., Sale], stock_redis: redis.Redis
) -> None:
    """A unit too few for all receipts: the latest is refused and told so; nobody is oversold."""
    offer = make_sale(quantity=3).offers.get()
    lost = holds(offer, 3)
    stock_redis.flushall()
    Stock.objects.filter(pk=offer.pk).update(quantity=2)

    show(offer, lost)
    watch()

    earliest_first = sorted(lost, key=lambda receipt: (receipt[2], receipt[0].reservation_id))
    assert states(earliest_first) == ["held", "held", "refused"]
    assert reservations.look_up(offer.pk, lost[0][0].reservation_id) is not None


def test_late_receipts_get_what_is_left(make_sale: Callable[..., Sale], stock_redis: redis.Redis) -> None:
    """Shown after the window, a receipt gets a unit while there is one, and a word when there is none."""
    offer = make_sale(quantity=3).offers.get()
    recorded(offer, 1)
    lost = holds(offer, 2)
    stock_redis.flushall()
    watch()
    recorded(offer, 1)  # somebody else was faster

    show(offer, lost)
    watch()
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()

    assert sorted(states(lost)) == ["held", "refused"]
    assert set(Reservation.objects.filter(state="held").values_list("reason", flat=True)) == {"", "late"}
    assert findings(offer.pk) == []


def test_what_survives_in_the_stream_is_recorded(offer: Offer, stock_redis: redis.Redis) -> None:
    """Only the counters are gone: the holds in the stream, claimed by a dead worker or not, become orders."""
    first, second = holds(offer, 2), holds(offer, 2)
    stock_redis.xreadgroup(_keys.GROUP, "dead", {_keys.events(offer.pk): ">"}, count=2)
    stock_redis.delete(_keys.units(offer.pk))

    watch()

    assert states(first + second) == ["held"] * 4
    assert findings(offer.pk) == []


def test_a_drain_of_an_older_epoch_is_refused(offer: Offer, stock_redis: redis.Redis) -> None:
    """A worker that still reads the old stream after the epoch ended records nothing of it."""
    [lost] = holds(offer, 1)
    Stock.objects.filter(pk=offer.pk).update(epoch=2)

    with pytest.raises(OtherEpoch):
        outbox.drain(offer.pk, orders.place)

    assert states([lost]) == ["unknown"]
    assert stock_redis.xpending(_keys.events(offer.pk), _keys.GROUP)["pending"] == 1


def test_two_watchers_start_one_recovery(offer: Offer, stock_redis: redis.Redis, settings: Settings) -> None:
    """Whoever comes second finds the epoch ended already, and changes nothing."""
    settings.CLAIM_WINDOW_SECONDS = 3_600
    recorded(offer, 1)
    stock_redis.flushall()

    for _ in range(2):
        recovery.begin(offer.pk, 1, orders.place)

    assert Stock.objects.get(pk=offer.pk).epoch == 2


@pytest.mark.parametrize("place", ["recovery.begun", "recovery.counted", "recovery.filled"])
def test_a_recovery_that_dies_is_done_again(
    offer: Offer, stock_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whichever step the process dies at, the next look of the watcher ends where it should have."""
    old, lost = recorded(offer, 3), holds(offer, 2)
    stock_redis.flushall()

    def die(here: str) -> None:
        if here == place:
            raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("resilience.failpoint.hit", die)
        with pytest.raises(KeyboardInterrupt):
            watch()
    connection.close()
    show(offer, lost)
    watch()

    assert states(old) == ["held"] * 3
    assert "unknown" not in states(lost)
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()
    assert findings(offer.pk) == []


def test_events_after_a_recovery_come_after_all_before(offer: Offer, stock_redis: redis.Redis) -> None:
    """By a clock that was set back, the new stream would end before the high water, and look lost for ever."""
    recorded(offer, 1)
    Stock.objects.filter(pk=offer.pk).update(high_water_ms=9_999_999_999_999)
    stock_redis.flushall()
    watch()

    holds(offer, 1)

    [(event_id, _)] = stock_redis.xrange(_keys.events(offer.pk))
    assert int(event_id.partition("-")[0]) >= 9_999_999_999_999
    assert watch() == []


def test_a_redis_that_is_away_is_not_a_loss(offer: Offer, frozen: Callable[[str], Any]) -> None:
    """It sells nothing meanwhile, and comes back with everything: nobody ends its epoch."""
    recorded(offer, 1)

    with frozen("redis-stock"), pytest.raises(InventoryUnavailable):
        watch()

    assert watch() == []
    assert Stock.objects.get(pk=offer.pk).epoch == 1


def test_old_events_are_trimmed_and_open_ones_never(offer: Offer, stock_redis: redis.Redis, settings: Settings) -> None:
    """Trimming removes what is committed and old, and stops at the first event that is not."""
    settings.EVENTS_KEPT_SECONDS = 0
    recorded(offer, 3)
    holds(offer, 2)
    stock_redis.xreadgroup(_keys.GROUP, "busy", {_keys.events(offer.pk): ">"}, count=1)

    assert outbox.trim_all() == 3
    assert stock_redis.xlen(_keys.events(offer.pk)) == 2
    assert outbox.trim_all() == 0

    outbox.drain(offer.pk, orders.place, recovering=True)
    settings.EVENTS_KEPT_SECONDS = 3_600
    assert outbox.trim_all() == 0
