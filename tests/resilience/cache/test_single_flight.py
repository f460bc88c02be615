"""One goes, the others wait: for what it brings, for as long as they like, and never for nothing."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilience.cache.single_flight import Flight, Flights, LeaderGone
from tests.crowd import PATIENCE_SECONDS, at_once, eventually


def soon() -> float:
    return time.monotonic() + PATIENCE_SECONDS


class Followers:
    """So many who wait for a key of the flight; each one's answer or exception."""

    def __init__(self, flight: Flight, name: str, count: int = 5) -> None:
        self.heard: list[Any] = []
        self._threads = [threading.Thread(target=self._wait, args=(flight, name)) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(flight._changed._waiters) >= count)  # type: ignore[attr-defined]

    def _wait(self, flight: Flight, name: str) -> None:
        try:
            self.heard.append(flight.wait_for(name, soon()))
        except Exception as error:
            self.heard.append(error)

    def all_heard(self) -> list[Any]:
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        return self.heard


def test_of_a_crowd_one_leads_each_key() -> None:
    flights = Flights()

    claims = at_once(range(30), lambda number: flights.claim(["a", "b"] if number % 2 else ["b", "a"]))

    leaders = [name for _, own, _ in claims for name in own]
    assert sorted(leaders) == ["a", "b"]
    for flight, own, others in claims:
        assert sorted([*own, *others]) == ["a", "b"]
        assert flight not in others.values()


def test_followers_get_each_value_as_soon_as_it_is_there() -> None:
    flights = Flights()
    flight, own, _ = flights.claim(["a", "b"])
    _, _, others = flights.claim(["a"])
    followers = Followers(others["a"], "a")

    flight.brings({"a": None})

    assert followers.all_heard() == [None] * 5
    assert not flight.ended
    with pytest.raises(TimeoutError):
        flight.wait_for("b", time.monotonic())
    flights.end(flight, own, None)


def test_followers_hear_the_leaders_exception() -> None:
    flights = Flights()
    flight, own, _ = flights.claim(["a"])
    followers = Followers(flight, "a")

    error = ValueError("broken")
    flights.end(flight, own, error)

    assert followers.all_heard() == [error] * 5


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), None])
def test_followers_of_a_killed_leader_are_sent_on_their_own_way(end: BaseException | None) -> None:
    flights = Flights()
    flight, own, _ = flights.claim(["a"])
    followers = Followers(flight, "a")

    flights.end(flight, own, end)

    assert [type(each) for each in followers.all_heard()] == [LeaderGone] * 5
    assert flights.claim(["a"])[1] == ["a"]


def test_what_was_brought_before_a_failure_is_good() -> None:
    flights = Flights()
    flight, own, _ = flights.claim(["a", "b"])
    flight.brings({"a": 1})
    flights.end(flight, own, ValueError("broken"))

    assert flight.wait_for("a", soon()) == 1
    with pytest.raises(ValueError, match="broken"):
        flight.wait_for("b", soon())


@pytest.mark.parametrize("outdate", [lambda flights: flights.outdate(["a"]), lambda flights: flights.outdate_all()])
def test_nobody_joins_a_flight_that_began_before_an_invalidation(outdate: Callable[[Flights], object]) -> None:
    flights = Flights()
    before, own, _ = flights.claim(["a"])

    outdate(flights)
    after, its_own, _ = flights.claim(["a"])
    assert its_own == ["a"]

    flights.end(before, own, None)  # takes nothing from the one that came after it
    assert flights.claim(["a"])[2] == {"a": after}


def test_nothing_is_left_of_flights_that_ended() -> None:
    flights = Flights()

    def fly(number: int) -> None:
        for each in range(200):
            flight, own, _ = flights.claim([f"key:{each % 7}", f"own:{number}"])
            flights.end(flight, own, None)

    at_once(range(8), fly)

    assert flights._under_way == {}
