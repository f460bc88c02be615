"""reserve.lua: every word it may return, and what it must not change."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
import redis

from inventory import _keys
from inventory._scripts import Script
from shop.models import Offer, Sale

reserve = Script("reserve.lua")

#: Events that may wait, in these tests: enough for all of them.
MANY = 1_000


def rid(offer: Offer) -> str:
    return f"{offer.pk}-{secrets.token_urlsafe(16)}"


def ask(offer: Offer, *wishes: tuple[Any, Any, Any], most: Any = MANY, reason: str = "") -> list[str]:
    """The words for some wishes, each a reservation id, a buyer and units."""
    return reserve(_keys.of_reserve(offer.pk), [most, *(part for wish in wishes for part in (*wish, reason))])[3:]


@pytest.fixture
def contents(stock_redis: redis.Redis) -> Callable[[], dict[str, Any]]:
    """Every key of stock Redis and what it holds; the time of the last ring is nobody's stock."""

    def read() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in sorted(stock_redis.scan_iter()):
            match stock_redis.type(key):
                case "hash":
                    found[key] = stock_redis.hgetall(key)
                case "stream":
                    found[key] = stock_redis.xrange(key)
                case "string":
                    found[key] = stock_redis.get(key)
        return found

    return read


def test_a_unit_is_held(offer: Offer, contents: Callable[[], dict[str, Any]]) -> None:
    """RESERVED moves a unit from available to held, writes the hold, and tells the stream."""
    reservation = rid(offer)

    assert ask(offer, (reservation, 7, 1)) == ["RESERVED"]

    found = contents()
    units = found[_keys.units(offer.pk)]
    assert (units["available"], units["held"], units["taken"], units["waiting"]) == ("19", "1", "1", "1")
    assert found[_keys.reservations(offer.pk)] == {reservation: "held:7:1"}
    assert found[_keys.buyers(offer.pk)] == {"7": f"1:{reservation}"}
    [(_, event)] = found[_keys.events(offer.pk)]
    told = {"type": "held", "reservation": reservation, "buyer": "7", "units": "1", "epoch": "1", "reason": ""}
    assert event == told


def test_the_same_reservation_again_is_repeated(offer: Offer, contents: Callable[[], dict[str, Any]]) -> None:
    """REPEATED, whether it comes later or twice in one batch, changes nothing."""
    reservation = rid(offer)
    assert ask(offer, (reservation, 7, 1), (reservation, 7, 1)) == ["RESERVED", "REPEATED"]
    before = contents()

    assert ask(offer, (reservation, 7, 1)) == ["REPEATED"]
    assert contents() == before


def test_a_winner_is_known_before_anything_else(make_sale: Callable[..., Sale], stock_redis: redis.Redis) -> None:
    """Whoever holds a unit hears REPEATED also after the offer has sold out, paused, closed or filled its stream."""
    offer = make_sale(quantity=1).offers.get()
    winner = (rid(offer), 7, 1)
    assert ask(offer, winner, (rid(offer), 8, 1)) == ["RESERVED", "SOLD_OUT"]

    for state in ("paused", "closed"):
        stock_redis.hset(_keys.units(offer.pk), "state", state)
        assert ask(offer, winner) == ["REPEATED"]
    assert ask(offer, winner, most=1) == ["REPEATED"]


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("state", "paused", "PAUSED"),
        ("state", "closed", "CLOSED"),
        ("opens_at_ms", "9999999999999", "NOT_OPEN"),
        ("closes_at_ms", "1", "CLOSED"),
        ("available", "0", "SOLD_OUT"),
        ("limit", "0", "LIMIT_REACHED"),
    ],
)
def test_a_closed_door_changes_nothing(
    offer: Offer, stock_redis: redis.Redis, contents: Callable[[], dict[str, Any]], field: str, value: str, word: str
) -> None:
    """Each reason not to sell has its word."""
    stock_redis.hset(_keys.units(offer.pk), field, value)
    before = contents()

    assert ask(offer, (rid(offer), 7, 1)) == [word]
    assert contents() == before


@pytest.mark.parametrize("closed", [{"state": "closed"}, {"closes_at_ms": "1"}])
def test_late_money_needs_no_open_sale(offer: Offer, stock_redis: redis.Redis, closed: dict[str, str]) -> None:
    """Reason `late` reserves after the end, within stock and limit; a made-up reason is INVALID."""
    stock_redis.hset(_keys.units(offer.pk), mapping=closed)

    assert ask(offer, (rid(offer), 7, 1), reason="late") == ["RESERVED"]
    assert ask(offer, (rid(offer), 7, 1), reason="late") == ["LIMIT_REACHED"]
    assert ask(offer, (rid(offer), 8, 1), reason="early") == ["INVALID"]


def test_a_full_stream_answers_busy(offer: Offer) -> None:
    """BUSY when PostgreSQL is further behind than it may be."""
    assert ask(offer, (rid(offer), 7, 1), most=1) == ["RESERVED"]
    assert ask(offer, (rid(offer), 8, 1), most=1) == ["BUSY"]


def test_the_stream_has_room_for_a_part_of_a_batch(offer: Offer) -> None:
    """Those who come first are served; BUSY is for those who would come after it is full, as one by one."""
    wishes = [(rid(offer), buyer, 1) for buyer in (7, 8, 9)]

    assert ask(offer, *wishes, most=2) == ["RESERVED", "RESERVED", "BUSY"]


def test_an_unknown_offer_fails_closed(offer: Offer, stock_redis: redis.Redis) -> None:
    """A Redis that lost everything answers UNAVAILABLE and makes up no stock."""
    stock_redis.flushall()

    assert ask(offer, (rid(offer), 7, 1)) == ["UNAVAILABLE"]
    assert stock_redis.dbsize() == 0


def test_another_buyers_reservation_is_a_mismatch(offer: Offer, contents: Callable[[], dict[str, Any]]) -> None:
    """MISMATCH for a reservation of somebody else, or of other units; no data of it is told."""
    reservation = rid(offer)
    ask(offer, (reservation, 7, 1))
    before = contents()

    assert ask(offer, (reservation, 8, 1), (reservation, 7, 2)) == ["MISMATCH", "MISMATCH"]
    assert contents() == before


def test_the_limit_counts_within_a_batch(make_sale: Callable[..., Sale]) -> None:
    """One buyer's wishes in one batch add up as if they came one after the other."""
    offer = make_sale(limit=2).offers.get()

    words = ask(offer, (rid(offer), 7, 1), (rid(offer), 7, 2), (rid(offer), 7, 1), (rid(offer), 7, 1))

    assert words == ["RESERVED", "LIMIT_REACHED", "RESERVED", "LIMIT_REACHED"]


def test_a_buyer_has_all_that_was_granted(
    make_sale: Callable[..., Sale], contents: Callable[[], dict[str, Any]]
) -> None:
    """Holds of one buyer add up, those of earlier batches and those of the same one, and nobody else's."""
    offer = make_sale(limit=9).offers.get()
    first, second, third, others = (rid(offer) for _ in range(4))
    ask(offer, (first, 7, 1))

    words = ask(offer, (others, 8, 1), (second, 7, 2), (third, 7, 3))

    assert words == ["RESERVED"] * 3
    assert contents()[_keys.buyers(offer.pk)] == {"7": f"6:{first},{second},{third}", "8": f"1:{others}"}


def test_large_counters_stay_whole_numbers(
    offer: Offer, stock_redis: redis.Redis, contents: Callable[[], dict[str, Any]]
) -> None:
    """No counter is ever written as 1e+14, as Lua would by itself."""
    stock_redis.hset(_keys.units(offer.pk), mapping={"available": 9 * 10**14, "limit": 9 * 10**14})
    first, second = rid(offer), rid(offer)

    assert ask(offer, (first, 7, 10**14), (second, 7, 10**14)) == ["RESERVED", "RESERVED"]

    found = contents()
    units = found[_keys.units(offer.pk)]
    assert (units["available"], units["held"], units["taken"]) == (str(7 * 10**14), str(2 * 10**14), str(2 * 10**14))
    assert found[_keys.buyers(offer.pk)] == {"7": f"{2 * 10**14}:{first},{second}"}


@pytest.mark.parametrize("reservation", ["", "x" * 49, "x" * 100_000])
def test_a_strange_reservation_harms_no_other(offer: Offer, reservation: str) -> None:
    """INVALID for a name that is none, and the others in the batch are served."""
    assert ask(offer, (reservation, 7, 1), (rid(offer), 8, 1), (reservation, 7, 1)) == [
        "INVALID",
        "RESERVED",
        "INVALID",
    ]


NO_NUMBERS = ["0", "-1", "nan", "inf", "1e3", "0x10", "1.5", " 1", "1\n", "٣", "9" * 20, "", "01", "+1"]


@pytest.mark.parametrize("units", NO_NUMBERS)
def test_units_that_are_no_number_are_invalid(offer: Offer, contents: Callable[[], dict[str, Any]], units: str) -> None:
    """INVALID for what Lua's own tonumber would have taken, and the others in the batch are served."""
    assert ask(offer, (rid(offer), 7, units), (rid(offer), 8, 1)) == ["INVALID", "RESERVED"]
    assert contents()[_keys.units(offer.pk)]["available"] == "19"


@pytest.mark.parametrize("buyer", [*NO_NUMBERS, "7:1", "%d", ".*"])
def test_buyers_that_are_no_number_are_invalid(offer: Offer, buyer: str) -> None:
    """INVALID also for what Lua would read as a pattern."""
    assert ask(offer, (rid(offer), buyer, 1)) == ["INVALID"]


@pytest.mark.parametrize(
    "arguments", [[], [MANY], [MANY, "7-x", 1, 1], ["nan", "7-x", 1, 1, ""], [MANY, *["x"] * 4 * 129]]
)
def test_wrong_arguments_are_an_error_of_the_caller(
    offer: Offer, contents: Callable[[], dict[str, Any]], arguments: list[Any]
) -> None:
    """Nothing, half a wish, 129 wishes or a limit that is no number: an error, and nothing changed."""
    before = contents()

    with pytest.raises(redis.ResponseError, match="BADARGS"):
        reserve(_keys.of_reserve(offer.pk), arguments)
    assert contents() == before


@pytest.mark.parametrize("key", [_keys.units, _keys.reservations, _keys.buyers, _keys.events])
def test_a_key_of_the_wrong_type_changes_nothing(
    offer: Offer, stock_redis: redis.Redis, contents: Callable[[], dict[str, Any]], key: Callable[[int], str]
) -> None:
    """Whatever is corrupted, the script fails before it writes."""
    stock_redis.delete(key(offer.pk))
    stock_redis.set(key(offer.pk), "not what it was")
    before = contents()

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        ask(offer, (rid(offer), 7, 1))
    assert contents() == before


def test_a_batch_answers_as_a_sequence(make_sale: Callable[..., Sale]) -> None:
    """However a list of wishes is split into batches, the words and the counters come out the same."""
    wishes = [(f"r{n}", 1 + n % 5, 1 + n % 2) for n in range(20)] + [("r3", 4, 2), ("r1", 2, 1)]
    results = []
    for size in (1, 3, 22):
        offer = make_sale(quantity=9, limit=3).offers.get()
        named = [(f"{offer.pk}-{name:>022}", buyer, units) for name, buyer, units in wishes]
        results.append([word for at in range(0, len(named), size) for word in ask(offer, *named[at : at + size])])

    assert results[0] == results[1] == results[2]
    assert {"RESERVED", "SOLD_OUT", "LIMIT_REACHED"} <= set(results[0])


def test_a_forgotten_script_is_loaded_again(offer: Offer, stock_redis: redis.Redis) -> None:
    """A restart empties the script cache of Redis; no caller notices."""
    ask(offer, (rid(offer), 7, 1))
    stock_redis.script_flush()

    assert ask(offer, (rid(offer), 8, 1)) == ["RESERVED"]


def test_a_script_is_called_with_the_keys_of_its_header(offer: Offer) -> None:
    """Another number of keys is refused before Redis sees it."""
    with pytest.raises(ValueError, match=r"reserve.lua takes 4 keys, not 3"):
        reserve(_keys.of_reserve(offer.pk)[:3], [MANY, rid(offer), 7, 1, ""])
