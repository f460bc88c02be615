"""The dictionary of one process: bounded, and kind to what is read."""

import random

from resilience.cache.memory_tier import Kept, MemoryTier
from resilience.cache.tallies import Tally
from tests.crowd import at_once

#: A moment of the monotonic clock that no test reaches.
LATER = 10.0**9


def kept(value: object) -> Kept:
    return Kept(value, Tally(), soft_until=LATER, due_at=LATER, fresh_until=LATER, stale_until=LATER)


def put(tier: MemoryTier, *names: str) -> None:
    for name in names:
        tier.put({name: kept(name)})


def read(tier: MemoryTier, *names: str) -> None:
    """As the facade does."""
    for name in names:
        found = tier.find(name)
        assert found is not None
        found.used = True


def what_is_left(tier: MemoryTier, *names: str) -> str:
    return "".join(name for name in names if tier.find(name))


def test_the_oldest_leaves_first() -> None:
    tier = MemoryTier(3)

    put(tier, *"abcd")

    assert what_is_left(tier, *"abcd") == "bcd"


def test_what_was_read_stays_for_another_round() -> None:
    tier = MemoryTier(3)
    put(tier, *"abc")

    read(tier, "a")
    put(tier, *"de")

    assert what_is_left(tier, *"abcde") == "ade"


def test_one_read_is_one_more_chance_and_not_more() -> None:
    tier = MemoryTier(2)
    put(tier, *"ab")

    read(tier, "a")
    put(tier, *"cde")

    assert what_is_left(tier, *"abcde") == "de"


def test_when_all_were_read_the_oldest_leaves() -> None:
    tier = MemoryTier(3)
    put(tier, *"abc")
    read(tier, *"abc")

    put(tier, "d")

    assert what_is_left(tier, *"abcd") == "bcd"


def test_a_hot_key_outlives_a_flood_of_random_ones() -> None:
    tier = MemoryTier(100)
    put(tier, "hot")

    for number in range(10_000):
        read(tier, "hot")
        put(tier, f"random:{number}")

    assert len(tier) == 100


def test_put_again_is_another_value_and_no_second_place() -> None:
    tier = MemoryTier(3)
    put(tier, *"abc")

    tier.put({"b": kept("new")})

    found = tier.find("b")
    assert found is not None
    assert found.value == "new"
    assert what_is_left(tier, *"abc") == "abc"


def test_the_bound_holds_for_a_crowd() -> None:
    """That puts, reads, drops and clears at the same moment."""
    tier = MemoryTier(50)
    sizes: list[int] = []

    def work(seed: int) -> None:
        rolls = random.Random(seed)
        for _ in range(2_000):
            name = f"key:{rolls.randrange(200)}"
            tier.put({name: kept(name), f"{name}!": kept(name)})
            if (found := tier.find(name)) is not None:
                found.used = rolls.random() < 0.5
            if rolls.random() < 0.2:
                tier.drop([name])
            if rolls.random() < 0.001:
                tier.clear()
            sizes.append(len(tier))

    at_once(range(8), work)

    assert max(sizes) <= 50
    assert tier._entries.keys() <= set(tier._round)


def test_names_of_what_was_dropped_do_not_pile_up() -> None:
    tier = MemoryTier(10)
    put(tier, *"abc")

    for number in range(10_000):
        put(tier, f"key:{number}")
        tier.drop([f"key:{number}"])

    assert what_is_left(tier, *"abc") == "abc"
    assert len(tier._round) <= 21


def test_what_rests_answers_alone_but_not_beyond_its_time() -> None:
    tier = MemoryTier(10)
    short = kept("short")
    short.soft_until, short.stale_until = 0.0, 1.0
    tier.put({"short": short, "long": kept("long")})

    tier.rest(["short", "long", "missing"], 5.0)

    assert short.soft_until == 1.0
    found = tier.find("long")
    assert found is not None
    assert 0 < found.soft_until < LATER


def test_cleared_is_empty_and_works_on() -> None:
    tier = MemoryTier(2)
    put(tier, *"ab")

    tier.clear()
    assert len(tier) == 0

    put(tier, *"cde")
    assert what_is_left(tier, *"abcde") == "de"
