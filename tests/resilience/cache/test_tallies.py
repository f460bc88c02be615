"""Counts of what happened to reads, for each group of keys."""

import pytest

from resilience.cache.tallies import EVENTS, GROUPS_MAXIMUM, OTHERS, Tallies
from tests.crowd import at_once


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("offer:7", "offer"),
        ("sale:summer:page:en", "sale:summer"),
        ("sale:summer:live", "sale:summer"),
        ("slugs", "slugs"),
        ("", ""),
    ],
)
def test_the_group_that_a_key_counts_for(name: str, group: str) -> None:
    tallies = Tallies()

    tallies.count("loads", [name])

    assert tallies.total(group)["loads"] == 1
    assert tallies.total("another")["loads"] == 0


def test_a_total_has_every_event_and_the_hits_of_memory() -> None:
    tallies = Tallies()
    tallies.count("loads", ["offer:1", "offer:2", "slugs"])
    tallies.count("stale", [])
    tallies.of("offer:3").hits += 5

    assert tallies.total("offer") == dict.fromkeys(EVENTS, 0) | {"memory": 5, "loads": 2}
    assert tallies.total() == dict.fromkeys(EVENTS, 0) | {"memory": 5, "loads": 3}


def test_a_crowd_loses_no_count() -> None:
    tallies = Tallies()

    at_once(range(16), lambda number: [tallies.count("loads", ["a:1", f"group{number}:1"]) for _ in range(500)])

    assert tallies.total("a")["loads"] == 8_000
    assert tallies.total()["loads"] == 16_000


def test_random_keys_count_together_when_they_are_too_many() -> None:
    """Somebody asks for whatever comes to mind: the counts must not become the leak."""
    tallies = Tallies()

    tallies.count("loads", (f"random{number}:key" for number in range(GROUPS_MAXIMUM + 500)))

    assert len(tallies._groups) <= GROUPS_MAXIMUM + 1
    assert tallies.total(OTHERS)["loads"] == 500
    assert tallies.total()["loads"] == GROUPS_MAXIMUM + 500


def test_asking_for_a_group_makes_none() -> None:
    tallies = Tallies()

    for number in range(10):
        tallies.total(f"group{number}")

    assert len(tallies._groups) == 0
