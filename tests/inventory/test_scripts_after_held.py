"""record.lua, settle.lua and install.lua: each word they may return, and what they must not change."""

from collections.abc import Callable

import pytest
import redis

from inventory import _keys, effects, stock
from inventory._scripts import Script
from inventory.models import Effect
from inventory.outcomes import Wish
from inventory.reservations import reserve
from inventory.stock import Shelf, ShelfLost
from shop.models import Offer, Sale

record = Script("record.lua")


@pytest.fixture
def held(offer: Offer) -> str:
    """A reservation of one unit by buyer 7, held in Redis."""
    reservation = f"{offer.pk}-{'h' * 22}"
    [answer] = reserve(offer.pk, [Wish(reservation, 7)])
    assert answer.outcome == "RESERVED"
    return reservation


def counters(offer: Offer) -> tuple[int, int, int]:
    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    return levels.available, levels.held, levels.sold


def test_record_tells_the_polls(offer: Offer, held: str, stock_redis: redis.Redis) -> None:
    """PLACED adds order and deadline to a held reservation; a second time, and for strangers, KEPT."""
    keys = [_keys.reservations(offer.pk)]

    assert record(keys, [held, "ABC", 99, "7-nobody", "DEF", 99]) == ["PLACED", "KEPT"]
    assert stock_redis.hget(keys[0], held) == "placed:7:1:ABC:99"
    assert record(keys, [held, "XYZ", 11]) == ["KEPT"]
    assert stock_redis.hget(keys[0], held) == "placed:7:1:ABC:99"


def test_a_status_never_goes_back(offer: Offer, held: str, stock_redis: redis.Redis) -> None:
    """A drain that writes its status late does not undo an end."""
    effects.settle(offer.pk, [(held, "paid", 1)])

    assert record([_keys.reservations(offer.pk)], [held, "ABC", 99]) == ["KEPT"]
    assert stock_redis.hget(_keys.reservations(offer.pk), held) == "paid:7:1"


@pytest.mark.parametrize(
    ("ending", "after"),
    [("paid", (19, 0, 1)), ("released", (20, 0, 0)), ("expired", (20, 0, 0)), ("refused", (20, 0, 0))],
)
def test_a_hold_is_settled_once(offer: Offer, held: str, ending: str, after: tuple[int, int, int]) -> None:
    """SETTLED moves the units, the same effect again is UNKNOWN, and so is any other end afterwards."""
    assert effects.settle(offer.pk, [(held, ending, 1)]) == ["SETTLED"]
    assert counters(offer) == after

    assert effects.settle(offer.pk, [(held, ending, 1), (held, "released", 1), (held, "paid", 1)]) == ["UNKNOWN"] * 3
    assert counters(offer) == after


def test_a_buyer_gets_the_limit_back(offer: Offer, held: str, stock_redis: redis.Redis) -> None:
    """Released units count no longer, and the buyer's other reservations stay listed."""
    assert stock_redis.hget(_keys.buyers(offer.pk), "7") == f"1:{held}"

    effects.settle(offer.pk, [(held, "released", 1)])

    assert stock_redis.hexists(_keys.buyers(offer.pk), "7") is False
    [answer] = reserve(offer.pk, [Wish(f"{offer.pk}-{'i' * 22}", 7)])
    assert answer.outcome == "RESERVED"


def test_only_the_ended_reservation_leaves_the_buyers_list(
    make_sale: Callable[..., Sale], stock_redis: redis.Redis
) -> None:
    """A buyer of three loses the one that was cancelled."""
    offer = make_sale(limit=3).offers.get()
    ids = [f"{offer.pk}-{letter * 22}" for letter in "abc"]
    reserve(offer.pk, [Wish(pk, 7) for pk in ids])

    effects.settle(offer.pk, [(ids[1], "released", 1)])

    assert stock_redis.hget(_keys.buyers(offer.pk), "7") == f"2:{ids[0]},{ids[2]}"


def test_an_effect_of_another_epoch_is_stale(offer: Offer, held: str) -> None:
    """What an earlier filling of Redis left behind changes nothing."""
    assert effects.settle(offer.pk, [(held, "released", 2)]) == ["STALE"]
    assert counters(offer) == (19, 1, 0)


def test_an_unknown_ending_changes_nothing(offer: Offer, held: str) -> None:
    """One bad ending in a batch refuses the whole batch before anything is written."""
    with pytest.raises(redis.ResponseError, match="BADARGS"):
        effects.settle(offer.pk, [(held, "released", 1), (held, "vanished", 1)])
    assert counters(offer) == (19, 1, 0)


def test_nothing_to_settle_makes_no_round_trip(offer: Offer, stock_redis: redis.Redis) -> None:
    """Empty input never leaves the process."""
    before = stock_redis.info("stats")["total_commands_processed"]

    assert effects.settle(offer.pk, []) == []
    assert stock.levels([]) == {}

    assert stock_redis.info("stats")["total_commands_processed"] == before + 1  # the second INFO itself


def test_putting_on_the_shelf_again_keeps_the_counters(offer: Offer, held: str, shelf: Shelf) -> None:
    """UPDATED: a second preheat in mid-sale gives nothing back."""
    assert stock.put_on_shelf(offer.pk, shelf) == "UPDATED"
    assert counters(offer) == (19, 1, 0)


def test_an_empty_shelf_is_not_filled_twice(offer: Offer, shelf: Shelf, stock_redis: redis.Redis) -> None:
    """An offer that was on the shelf once and is gone was lost, whether or not anything was written down of it."""
    stock_redis.flushall()

    with pytest.raises(ShelfLost):
        stock.put_on_shelf(offer.pk, shelf)
    assert stock.levels([offer.pk]) == {offer.pk: None}


def test_broken_data_of_one_offer_hold_up_nobody_else(make_sale: Callable[..., Sale], stock_redis: redis.Redis) -> None:
    """An offer whose keys are no longer what they were keeps its own effects waiting, and only these."""
    offers = [make_sale().offers.get() for _ in range(2)]
    for offer in offers:
        Effect.objects.create(reservation_id=f"{offer.pk}-x", stock_id=offer.pk, kind="released", epoch=1)
    stock_redis.set(_keys.buyers(offers[0].pk), "no hash any more")

    assert effects.apply_pending() == 1

    assert Effect.objects.get(applied_at=None).stock_id == offers[0].pk
