"""Drift: explained by its cause, repaired without a person only where nothing can be sold twice."""

import pytest
import redis

from inventory import _keys, effects, outbox, reconciliation, reservations
from inventory.models import Effect, Reservation
from inventory.outcomes import Wish
from inventory.reconciliation import UnderWay
from inventory.verification import findings
from shop import orders
from shop.models import Offer
from tests.people import a_crowd, reservation_id


@pytest.fixture
def placed(offer: Offer) -> list[str]:
    """Three recorded holds."""
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(3)]
    reservations.reserve(offer.pk, wishes)
    outbox.drain(offer.pk, orders.place)
    return [wish.reservation_id for wish in wishes]


def repair(offer: Offer, waits: list[float] | None = None) -> str:
    heard = waits if waits is not None else []
    return reconciliation.repair(offer.pk, orders.place, wait=heard.append)


def test_equal_stores_have_no_drift(offer: Offer, placed: list[str]) -> None:
    """Nothing is found, and a repair changes nothing."""
    assert reconciliation.audit(offer.pk).clean
    assert repair(offer) == "0 events recorded, 0 lost effects applied, counters right"


def test_what_is_on_its_way_is_no_drift(offer: Offer, placed: list[str]) -> None:
    """With events or effects under way there is no moment to compare; a repair brings them home first."""
    [buyer] = a_crowd(1)
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
    with pytest.raises(UnderWay):
        reconciliation.audit(offer.pk)
    reservations.release(placed[0])

    assert repair(offer) == "1 events recorded, 0 lost effects applied, counters right"
    assert findings(offer.pk) == []


def test_a_lost_effect_is_sent_again(offer: Offer, placed: list[str]) -> None:
    """Ended in PostgreSQL, marked as told, and Redis never heard: the end is told once more."""
    reservations.release(placed[0])
    Effect.objects.update(applied_at="2026-01-01T00:00:00Z")
    assert reconciliation.audit(offer.pk).unsettled == {placed[0]: "released"}

    assert repair(offer) == "0 events recorded, 1 lost effects applied, counters right"
    assert findings(offer.pk) == []


def test_a_lost_event_is_emitted_again(offer: Offer, placed: list[str], stock_redis: redis.Redis) -> None:
    """Held in Redis with no event anywhere: it is recorded after all."""
    [buyer] = a_crowd(1)
    lost = reservation_id(offer)
    reservations.reserve(offer.pk, [Wish(lost, buyer)])
    stock_redis.xtrim(_keys.events(offer.pk), maxlen=0)
    stock_redis.hset(_keys.units(offer.pk), "waiting", 0)

    assert repair(offer) == "1 events recorded, 0 lost effects applied, counters right"

    assert Reservation.objects.get(pk=lost).state == "held"
    assert findings(offer.pk) == []


def test_too_many_on_sale_are_taken_off_at_once(offer: Offer, placed: list[str], stock_redis: redis.Redis) -> None:
    """Selling less needs no second look."""
    stock_redis.hincrby(_keys.units(offer.pk), "available", 5)
    waits: list[float] = []

    assert repair(offer, waits).endswith("counters corrected")

    assert waits == []
    assert findings(offer.pk) == []


def test_too_few_on_sale_are_added_after_a_second_look(
    offer: Offer, placed: list[str], stock_redis: redis.Redis
) -> None:
    """Units that leaked come back when two audits, half a minute apart, find the same."""
    stock_redis.hincrby(_keys.units(offer.pk), "available", -5)
    waits: list[float] = []

    assert repair(offer, waits).endswith("counters corrected")

    assert waits == [30]
    assert findings(offer.pk) == []


def test_what_moves_between_two_looks_is_not_added(offer: Offer, placed: list[str], stock_redis: redis.Redis) -> None:
    """Somebody bought meanwhile: nothing is corrected, and the next repair looks again."""
    stock_redis.hincrby(_keys.units(offer.pk), "available", -5)

    def somebody_buys(_: float) -> None:
        [buyer] = a_crowd(1)
        reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
        outbox.drain(offer.pk, orders.place)
        effects.apply_pending()

    word = reconciliation.repair(offer.pk, orders.place, wait=somebody_buys)

    assert word.endswith("look again")
    assert stock_redis.hget(_keys.units(offer.pk), "available") == "11"


def test_a_lost_offer_is_not_repaired_here(offer: Offer, placed: list[str], stock_redis: redis.Redis) -> None:
    """An empty Redis is a matter for the recovery."""
    stock_redis.flushall()

    with pytest.raises(UnderWay, match="recovery"):
        repair(offer)
