"""What was found out a moment ago: for how long it is good, and what ends it before."""

from typing import Any

import pytest
from django.core.cache import caches

from shop import lately
from shop.lately import KEYS_MAXIMUM, Lately
from tests.clock import Clock

SECONDS = 0.02


class Shelf:
    """Counts how often somebody looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.there: str | None = "something"

    def find(self, key: str) -> str | None:
        self.looks += 1
        return self.there and f"{self.there} for {key}"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lately, "time", clock)
    return clock


def test_one_look_a_moment_and_key(clock: Clock) -> None:
    seen, shelf = Lately[str](SECONDS), Shelf()

    assert {seen.of(key, shelf.find, key) for key in "abab"} == {"something for a", "something for b"}
    assert shelf.looks == 2
    clock.now += SECONDS
    seen.of("a", shelf.find, "a")
    assert shelf.looks == 3


def test_what_is_invalidated_ends_it(clock: Clock) -> None:
    """Of whatever key: the next one to come looks again."""
    seen, shelf = Lately[str](SECONDS), Shelf()
    seen.of("a", shelf.find, "a")
    cache: Any = caches["default"]
    cache.delete("quite another key")
    shelf.there = "something new"

    assert seen.of("a", shelf.find, "a") == "something new for a"


def test_what_changes_during_the_look_is_looked_at_again(clock: Clock) -> None:
    """The look may have seen it as it was before."""
    seen, shelf = Lately[str](SECONDS), Shelf()
    cache: Any = caches["default"]

    def find(key: str) -> str | None:
        found = shelf.find(key)
        cache.delete("a key")
        return found

    seen.of("a", find, "a")
    seen.of("a", shelf.find, "a")
    assert shelf.looks == 2


def test_that_nothing_was_found_is_not_remembered(clock: Clock) -> None:
    """Whoever makes up addresses fills no memory, and what is published is there at once."""
    seen, shelf = Lately[str](SECONDS), Shelf()
    shelf.there = None
    assert [seen.of("a", shelf.find, "a") for _ in range(2)] == [None, None]
    assert shelf.looks == 2
    assert seen._known == {}


def test_memory_is_bounded(clock: Clock) -> None:
    seen, shelf = Lately[str](SECONDS), Shelf()
    for number in range(2 * KEYS_MAXIMUM + 1):
        seen.of(number, shelf.find, str(number))

    assert len(seen._known) <= KEYS_MAXIMUM
