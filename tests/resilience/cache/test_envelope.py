"""An entry's bytes: what went in comes out, and what is no entry is never taken for one."""

import json
import random
from typing import Any

import pytest

from resilience.cache.envelope import FRESH_MAXIMUM_MS, HEADER_BYTES, NEVER_MS, Unreadable, pack, unpack, unpack_many

#: Milliseconds since the epoch; any would do.
NOW = 1_800_000_000_000

VALUES: list[Any] = [
    None,
    False,
    0,
    -1.5,
    2**70,
    "",
    "text",
    "灯\n\x00",
    [],
    [[]],
    {},
    {"a": [1, {"b": None}]},
    "x" * 5_000,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_what_goes_in_comes_out(value: Any) -> None:
    entry = unpack(pack(value, NOW, 30, cost_ms=42))

    assert entry.value == value
    assert entry.fresh_until_ms == NOW + 30_000
    assert entry.fresh_ms == 30_000
    assert entry.cost_ms == 42


def test_the_header_has_one_length_whatever_the_numbers() -> None:
    for now_ms, fresh, cost_ms in (
        (0, 0, 0),
        (NOW, None, 0),
        (NOW, 10**12, 10**12),
        (NEVER_MS, -5, 1),
        (NOW, 0.0004, 7),
    ):
        packed = pack("x", now_ms, fresh, cost_ms)

        assert packed[HEADER_BYTES:] == b'"x"'
        assert unpack(packed).header == packed[:HEADER_BYTES]
        assert unpack(packed).fresh_ms >= 0


def test_no_two_entries_have_the_same_header() -> None:
    headers = {pack("x", NOW, 30)[:HEADER_BYTES] for _ in range(10_000)}

    assert len(headers) == 10_000


def test_only_what_is_long_is_compressed() -> None:
    short, long = pack("x" * 1_000, NOW, 30), pack("x" * 10_000, NOW, 30)

    assert len(short) > 1_000
    assert len(long) < 200
    assert unpack(long).value == "x" * 10_000


def test_how_long_an_entry_stays_fresh() -> None:
    entry = unpack(pack("x", NOW, 30))

    assert entry.left_ms(NOW) == 30_000
    assert entry.left_ms(NOW + 29_999) == 1
    assert entry.left_ms(NOW + 31_000) == -1_000


def test_an_entry_from_the_future_has_no_more_time_than_it_ever_had() -> None:
    """Its process has a clock that is an hour ahead."""
    entry = unpack(pack("x", NOW + 3_600_000, 30))

    assert entry.left_ms(NOW) == 30_000


def test_an_entry_that_never_goes_stale() -> None:
    entry = unpack(pack("x", NOW, None))

    assert entry.left_ms(NOW) == entry.left_ms(NEVER_MS - 1) == FRESH_MAXIMUM_MS


def test_a_value_that_cannot_be_held_says_so() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), {1}, b"x", float("inf"), "\ud83c", endless, {(1,): 2}):
        with pytest.raises(TypeError, match="a cache holds what JSON can"):
            pack(value, NOW, 30)


@pytest.mark.parametrize("value", ["x" * 20, "x" * 5_000])
def test_every_cut_and_most_other_damage_is_seen(value: str) -> None:
    """Damage inside a text may leave a text; anything else is told, and never by another exception."""
    whole = pack(value, NOW, 30)
    for length in range(len(whole)):
        with pytest.raises(Unreadable):
            unpack(whole[:length])

    rolls = random.Random(7)
    for _ in range(5_000):
        damaged = bytearray(whole)
        damaged[rolls.randrange(len(damaged))] = rolls.randrange(256)
        entries, broken = unpack_many({"damaged": bytes(damaged), "whole": whole})
        assert entries["whole"].value == value
        assert ("damaged" in entries) != ("damaged" in broken)


BODIES = [
    b"1,2",
    b"",
    b" ",
    b"1]",
    b"[1",
    b"],[",
    b'"a',
    b'a"',
    b"1],[2",
    b"nul",
    b"\xff",
    b"1,",
    b",1",
    b"[[[[",
    b"NaNN",
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_not_one_value_harms_no_neighbour(body: bytes) -> None:
    good = {f"good {number}": pack(number, NOW, 30) for number in range(3)}
    bad = pack(0, NOW, 30)[:HEADER_BYTES] + body

    entries, broken = unpack_many({"first": bad, **good, "last": bad})

    assert {name: entry.value for name, entry in entries.items()} == {f"good {number}": number for number in range(3)}
    assert broken.keys() == {"first", "last"}


@pytest.mark.parametrize("first", [b'1,"', b'1,2,3,"'])
def test_bodies_that_only_together_are_as_many_values_are_not_taken_for_each_other(first: bytes) -> None:
    """As many as there are entries, or as many as there are with what is put between them."""
    bodies = {"one": first, "two": b"x", "three": b'",2', "four": b"4"}
    assert json.loads(b"[" + b",".join(bodies.values()) + b"]")

    entries, broken = unpack_many({name: pack(0, NOW, 30)[:HEADER_BYTES] + body for name, body in bodies.items()})

    assert {name: entry.value for name, entry in entries.items()} == {"four": 4}
    assert broken.keys() == {"one", "two", "three"}


def test_no_entries_are_no_entries() -> None:
    assert unpack_many({}) == ({}, {})
    assert unpack_many({"key": b""})[0] == {}
