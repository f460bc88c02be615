"""Requests that waited before anybody saw them: who is refused, and what is told of it."""

from typing import Any

import pytest

from resilience import lateness
from resilience.admission import Budgets
from resilience.lateness import Lateness
from resilience.queue_figures import SLICE_SECONDS
from tests.clock import Clock

BUDGETS = Budgets(least_seconds=0.02, most_seconds=0.25, burst_seconds=0.2, burst_lasts_seconds=0.15)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made: Any = Clock()
    monkeypatch.setattr(lateness, "time", made)
    return made


@pytest.fixture
def standing(clock: Clock) -> Lateness:
    """A queue has stood for longer than a burst lasts."""
    made = Lateness(BUDGETS, lane="test")
    made.refuses(3, 0.1, lambda: 0)
    clock.now += 0.2
    return made


def test_the_unimportant_run_out_first(standing: Lateness) -> None:
    """After 60 ms in the queue a list is refused, a sale's page too, and a buyer is served."""
    assert [standing.refuses(importance, 0.06, lambda: 0) for importance in (0, 1, 2, 3)] == [True, True, False, False]


def test_a_buyer_is_refused_at_last(standing: Lateness) -> None:
    """Nobody is served whose answer would come after the promise."""
    assert standing.refuses(3, 0.26, lambda: 127)


def test_among_equals_the_shard_decides(standing: Lateness) -> None:
    assert standing.refuses(1, 0.05, lambda: 0)
    assert not standing.refuses(1, 0.05, lambda: 127)


def test_a_burst_is_forgiven(clock: Clock) -> None:
    """A queue that has not stood for long passes by itself."""
    made = Lateness(BUDGETS, lane="test")

    assert not made.refuses(0, 0.1, lambda: 0)
    clock.now += 0.1
    assert not made.refuses(0, 0.1, lambda: 0)
    clock.now += 0.1
    assert made.refuses(0, 0.1, lambda: 0)


def test_one_that_comes_in_time_ends_the_queue(standing: Lateness) -> None:
    """Then the next wait is a burst again."""
    standing.refuses(0, 0.0, lambda: 0)

    assert not standing.refuses(0, 0.1, lambda: 0)


def test_whoever_is_in_time_costs_no_shard(standing: Lateness) -> None:
    def unasked() -> int:
        raise AssertionError("nobody needs to know who it is")

    assert not standing.refuses(0, 0.01, unasked)


def test_the_figures_say_who_came_and_who_was_refused(standing: Lateness, clock: Clock) -> None:
    for _ in range(10):
        standing.refuses(0, 0.1, lambda: 0)

    clock.now += SLICE_SECONDS
    found = standing.figures(2.0)

    assert (found.arrived[0], found.refused[0], found.arrived[3], found.refused[3]) == (10, 10, 1, 0)
    assert found.queue_delay_p90_seconds >= 0.1
