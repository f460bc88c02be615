"""Each script against each key of the wrong type, and against a failure of each of its writes.

A script that fails keeps what it wrote: there is no rollback. So it must fail before its first write, or leave less
for sale than there is, never more.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from inventory import _keys, outbox, reservations
from inventory._scripts import Script
from inventory.outcomes import Wish
from shop import orders
from shop.models import Offer
from tests.people import a_crowd, reservation_id

#: A call of a command that changes something.
WRITE = re.compile(r"redis\.call\('(?:HSET|HINCRBY|HDEL|XADD|XACK|XTRIM|XGROUP)'")


@dataclass(frozen=True)
class Stage:
    """An offer with a placed hold, a held one whose event waits, and a buyer who has nothing yet."""

    offer_id: int
    placed: str
    held: str
    event_id: str

    def keys(self, *names: str) -> list[str]:
        return [getattr(_keys, name)(self.offer_id) for name in names]


@pytest.fixture
def stage(offer: Offer, stock_redis: redis.Redis) -> Stage:
    placed, held = reservation_id(offer), reservation_id(offer)
    first, second = a_crowd(2)
    reservations.reserve(offer.pk, [Wish(placed, first)])
    outbox.drain(offer.pk, orders.place)
    reservations.reserve(offer.pk, [Wish(held, second)])
    stock_redis.xreadgroup(_keys.GROUP, "somebody", {_keys.events(offer.pk): ">"})
    [*_, (event_id, _)] = stock_redis.xrange(_keys.events(offer.pk))
    return Stage(offer.pk, placed, held, event_id)


Call = Callable[[Stage], tuple[list[str], list[Any]]]

#: A call of each script that writes all that the script can write.
CALLS: dict[str, list[Call]] = {
    "reserve.lua": [
        lambda s: (
            s.keys("units", "reservations", "buyers", "events"),
            [99, f"{s.offer_id}-new", 777, 1, "", f"{s.offer_id}-other", 778, 1, ""],
        )
    ],
    "record.lua": [lambda s: (s.keys("reservations"), [s.held, "ORDER", 99])],
    "settle.lua": [
        lambda s: (s.keys("units", "reservations", "buyers"), [s.placed, "paid", 1]),
        lambda s: (s.keys("units", "reservations", "buyers"), [s.placed, "released", 1]),
    ],
    "acknowledged.lua": [lambda s: (s.keys("units", "events"), [])],
    "acknowledge.lua": [lambda s: (s.keys("units", "events"), [s.event_id])],
    "trim.lua": [lambda s: (s.keys("events"), [0])],
    "change.lua": [
        lambda s: (s.keys("units", "changes"), ["change", 5, 1]),
        lambda s: (s.keys("units", "changes"), ["change", -5, 1]),
    ],
    "adjust.lua": [lambda s: (s.keys("units"), [18, 2, 0, 2, 17, 2, 0])],
    "ready.lua": [lambda s: ([], [])],
    "lag.lua": [lambda s: (s.keys("units", "events"), [])],
    "install.lua": [lambda s: (s.keys("units", "events"), [20, 1, 1, "open", 0, 9_999_999_999_999, "KEEP"])],
}
CASES = [(name, at) for name, calls in CALLS.items() for at in range(len(calls))]


def contents(client: redis.Redis) -> dict[str, Any]:
    read = {"hash": client.hgetall, "stream": client.xrange, "string": client.get}
    return {str(key): read[client.type(key)](key) for key in client.scan_iter()}


def test_every_script_is_in_the_table() -> None:
    """A new script comes with its failures."""
    assert {path.name for path in Script("reserve.lua").path.parent.glob("*.lua")} == set(CALLS)


def corruptions() -> Iterator[Any]:
    for name, at in CASES:
        for key in range(Script(name).key_count):
            yield pytest.param(name, at, key, id=f"{name}-{at}-key{key + 1}")


@pytest.mark.parametrize(("name", "at", "key"), list(corruptions()))
def test_a_key_of_the_wrong_type_changes_nothing(
    stage: Stage, stock_redis: redis.Redis, name: str, at: int, key: int
) -> None:
    """Whatever is corrupted, the script fails before it writes."""
    keys, arguments = CALLS[name][at](stage)
    stock_redis.delete(keys[key])
    stock_redis.set(keys[key], "not what it was")
    before = contents(stock_redis)

    with pytest.raises(redis.ResponseError):
        Script(name)(keys, arguments)

    assert contents(stock_redis) == before


def failing_writes() -> Iterator[Any]:
    for name, at in CASES:
        for write in range(len(WRITE.findall(Script(name).source))):
            yield pytest.param(name, at, write, id=f"{name}-{at}-write{write + 1}")


@pytest.mark.parametrize(("name", "at", "write"), list(failing_writes()))
def test_a_write_that_fails_leaves_less_for_sale_never_more(
    stage: Stage, stock_redis: redis.Redis, name: str, at: int, write: int
) -> None:
    """The server gives up in the middle: what is free and what is held never add up to more than there is."""
    script = Script(name)
    script.source = broken_at(script.source, write)
    keys, arguments = CALLS[name][at](stage)

    with suppress(redis.ResponseError):  # or this call does not come by that write
        script(keys, arguments)

    units = stock_redis.hgetall(_keys.units(stage.offer_id))
    records = [value.split(":") for value in stock_redis.hvals(_keys.reservations(stage.offer_id))]
    taken = sum(int(record[2]) for record in records if record[0] in ("held", "placed", "paid"))
    assert int(units["available"]) + taken <= int(units["quantity"])


def broken_at(source: str, write: int) -> str:
    """The script with its nth write replaced by an error of the server."""
    place = list(WRITE.finditer(source))[write]
    failing = source[: place.start()] + source[place.start() :].replace("redis.call(", "failing_write(", 1)
    shebang, _, rest = failing.partition("\n")
    return f"{shebang}\nlocal function failing_write() error('the disk is full') end\n{rest}"
