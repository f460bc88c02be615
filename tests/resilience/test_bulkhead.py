"""So many at once and no more, and nobody waits long for a place."""

import threading

import pytest

from resilience import deadline
from resilience.bulkhead import Bulkhead, Full
from tests.crowd import PATIENCE_SECONDS, at_once, eventually


def test_never_more_than_its_places_are_inside() -> None:
    """Thirty-two in a hurry, four places: four meet inside and never more, and whoever gets no place hears so."""
    places, inside, most, counting = Bulkhead("the neighbour", at_once=4), 0, 0, threading.Lock()

    def call(_: int) -> str:
        nonlocal inside, most
        try:
            with places.one():
                with counting:
                    inside += 1
                    most = max(most, inside)
                eventually(lambda: places.taken == 4 or most == 4)
                with counting:
                    inside -= 1
                return "in"
        except Full:
            return "full"

    outcomes = at_once(range(32), call)

    assert most == 4
    assert outcomes.count("in") >= 4
    assert set(outcomes) <= {"in", "full"}
    assert places.taken == 0


def test_whoever_finds_no_place_is_refused_while_the_others_are_still_inside() -> None:
    places = Bulkhead("the neighbour", at_once=1)

    with places.one(), pytest.raises(Full, match="the neighbour"):
        places.enter()

    assert places.enter_at_once()


def test_a_place_that_comes_free_at_once_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long wait, so that a busy machine does not make it a matter of luck."""
    monkeypatch.setattr("resilience.bulkhead.WAIT_SECONDS", PATIENCE_SECONDS)
    places = Bulkhead("the neighbour", at_once=1)
    places.enter()
    leaving = threading.Timer(0.01, places.leave)
    leaving.start()

    places.enter()

    leaving.join()
    assert places.taken == 1


def test_nobody_waits_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience.bulkhead.WAIT_SECONDS", 1_000.0)
    places = Bulkhead("the neighbour", at_once=1)
    places.enter()

    with deadline.within(0.01), pytest.raises(Full):
        places.enter()


def test_a_place_is_given_back_by_whoever_failed_inside() -> None:
    places = Bulkhead("the neighbour", at_once=1)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), places.one():
            raise KeyboardInterrupt

    assert places.taken == 0


def test_no_places_are_refused() -> None:
    with pytest.raises(ValueError, match="the neighbour: 0"):
        Bulkhead("the neighbour", at_once=0)
