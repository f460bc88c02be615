"""What is left of a burst a second after it, from the records of a load."""

from dataclasses import replace

import pytest

from loadtests.evidence import Evidence
from loadtests.overload import Burst, burst_of
from loadtests.records import Record
from loadtests.shapes import AROUND, AROUND_SECONDS, BURST_SECONDS, RATE_A_SOURCE, sources
from tests.loadtests.a_sale import T0, honest_sale

#: Requests a second.
RATE = 400.0
ANSWER_SECONDS = 0.010


def asked(wait_seconds_after: float) -> Evidence:
    """A burst as the shape asks for it; whoever comes later than a second after it waits so long."""
    ended, over = AROUND_SECONDS + BURST_SECONDS, 2 * AROUND_SECONDS + BURST_SECONDS
    moments = [step / (RATE * AROUND) for step in range(int(over * RATE * AROUND))]
    moments += [AROUND_SECONDS + step / RATE for step in range(int(BURST_SECONDS * RATE))]
    evidence = honest_sale()
    evidence.records = [_record(at, wait_seconds_after if at >= ended + 1.0 else 0.0) for at in moments]
    return evidence


def _record(at: float, wait_seconds: float) -> Record:
    done = T0 + at + ANSWER_SECONDS + wait_seconds
    return Record("1", "", 0, T0 + at, T0 + at, done, 200)


def test_a_queue_that_has_gone() -> None:
    burst = burst_of(asked(0.0), RATE)

    assert burst.queue_ms == pytest.approx(0.0, abs=1.0)
    assert burst.holds


def test_a_queue_that_is_still_there() -> None:
    burst = burst_of(asked(0.15), RATE)

    assert burst.queue_ms == pytest.approx(150.0, abs=1.0)
    assert not burst.holds
    assert "misses" in str(burst)


def test_a_load_without_a_burst_is_no_measurement() -> None:
    """Locust did not reach the rate: nothing can be said of what comes after it."""
    with pytest.raises(RuntimeError, match="no burst"):
        burst_of(asked(0.0), 100 * RATE)


def test_the_shape_is_a_burst() -> None:
    seconds = 2 * AROUND_SECONDS + BURST_SECONDS
    plan = honest_sale().plan
    plan = replace(plan, shape="burst", rate=1_000.0, ends_at_ms=plan.begins_at_ms + int(seconds * 1000))

    rates = [(sources(plan, second + 0.5) or 0) * RATE_A_SOURCE for second in range(int(seconds))]

    assert rates == [60.0] * 4 + [1_000.0] * 3 + [60.0] * 4


def test_how_it_is_told() -> None:
    assert "the queue is 36 ms long (at most 100): holds" in str(Burst(36.4, None))
    assert "client saturated" in str(Burst(36.4, "late"))
