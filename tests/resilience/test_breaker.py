"""When it opens, whom it lets try, what it does not count, and that nobody waits for anybody inside."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import pytest

from resilience import breaker as breakers
from resilience.breaker import OPEN_SPREAD, Breaker, BreakerOpen, Call, Thresholds
from tests.crowd import PATIENCE_SECONDS, at_once, eventually

LIMITS = Thresholds()
#: Longer than any open time with its spread.
LONG_SECONDS = 1_000.0


class Broken(Exception):
    pass


class SaysNo(Exception):
    """The neighbour's answer, if not the one that was hoped for."""


class Killed(BaseException):
    pass


class Clock:
    """A clock that the test moves by hand, so that ten seconds take none."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def thresholds_of_the_toolbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what the shop says about all its breakers."""
    monkeypatch.setattr("resilience.breaker._open_times", None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("the neighbour", ignoring=(SaysNo,), clock=clock)


@pytest.fixture
def lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> pytest.LogCaptureFixture:
    """By a logger of this test alone: of one that all tests use, some may be left out because there were many."""
    monkeypatch.setattr("resilience.breaker.logger", logging.getLogger(f"breaker.{request.node.name}"))
    return caplog


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Broken), breaker.watching():
            raise Broken("no answer")


def refused(breaker: Breaker) -> bool:
    try:
        with breaker.watching():
            return False
    except BreakerOpen:
        return True


def succeed(breaker: Breaker, times: int = 1) -> None:
    assert not any(refused(breaker) for _ in range(times))


def begun(breaker: Breaker) -> Call:
    """A call that is under way until the test ends it."""
    return breaker.watching().__enter__()


def end(call: Call, error: BaseException | None = None) -> None:
    call.__exit__(type(error) if error else None, error, None)


def opened(breaker: Breaker) -> Breaker:
    fail(breaker, LIMITS.failures_in_a_row)
    assert breaker.state == "open"
    return breaker


def half_opened(breaker: Breaker, clock: Clock) -> Breaker:
    """Open, and the next call is the first trial."""
    opened(breaker)
    clock.pass_by(LONG_SECONDS)
    return breaker


# --- When it opens ---------------------------------------------------------------------------------------------------


def test_when_nobody_gets_an_answer_nothing_is_called_any_more(breaker: Breaker) -> None:
    fail(breaker, LIMITS.failures_in_a_row)

    with pytest.raises(BreakerOpen), breaker.watching():
        pytest.fail("this was called")


def test_a_success_in_between_starts_the_row_anew(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, LIMITS.failures_in_a_row - 1)
        succeed(breaker)

    assert breaker.is_closed


def test_a_row_among_many_successes_is_chance_until_nothing_has_succeeded_for_a_moment(
    breaker: Breaker, clock: Clock
) -> None:
    """Of a thousand calls a second of which every tenth fails, three in a row fail each second."""
    succeed(breaker)
    fail(breaker, LIMITS.failures_in_a_row)
    assert breaker.is_closed

    clock.pass_by(2 * LIMITS.silence_seconds)
    fail(breaker)

    assert breaker.state == "open"


def test_sixty_in_a_hundred_failures_open_it_however_they_are_spread(breaker: Breaker, clock: Clock) -> None:
    """Never three in a row: what counts consecutive failures sees nothing."""
    for fails in islice(cycle([True, False, True, False, True]), LIMITS.calls_minimum):
        clock.pass_by(0.01)
        fail(breaker) if fails else succeed(breaker)

    assert breaker.state == "open"


def test_one_failure_in_ten_leaves_it_closed(breaker: Breaker, clock: Clock) -> None:
    for number in range(1_000):
        clock.pass_by(0.01)
        fail(breaker) if number % 10 == 0 else succeed(breaker)

    assert breaker.is_closed


def test_failures_of_long_ago_do_not_count(breaker: Breaker, clock: Clock) -> None:
    for _ in range(LIMITS.calls_minimum // 2):
        succeed(breaker)
        fail(breaker)  # half of them
        clock.pass_by(LIMITS.window_seconds)

    assert breaker.is_closed


def test_calls_that_succeed_too_slowly_open_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(LIMITS.calls_minimum):
        with breaker.watching():
            clock.pass_by(LIMITS.slow_seconds)

    assert breaker.state == "open"


def test_calls_that_hang_open_it_before_they_have_ended(breaker: Breaker, clock: Clock) -> None:
    """The fourth caller hears a refusal while three are still waiting."""
    hanging = [begun(breaker) for _ in range(LIMITS.failures_in_a_row)]
    succeed(breaker)
    clock.pass_by(LIMITS.slow_seconds)

    assert refused(breaker)
    for call in hanging:
        end(call)
    assert breaker.state == "open"


def test_one_that_takes_long_while_others_succeed_opens_nothing(breaker: Breaker, clock: Clock) -> None:
    report = begun(breaker)
    for _ in range(100):
        clock.pass_by(LIMITS.silence_seconds)
        succeed(breaker)

    end(report)
    assert breaker.is_closed


def test_a_failure_without_an_exception_counts_as_well(breaker: Breaker) -> None:
    for _ in range(LIMITS.failures_in_a_row):
        with breaker.watching() as call:
            call.failed("no answer came")

    assert breaker.state == "open"


# --- What it does not count ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SaysNo, BreakerOpen, Killed])
def test_an_answer_a_refusal_and_a_killed_caller_say_nothing(breaker: Breaker, error: type[BaseException]) -> None:
    fail(breaker, LIMITS.failures_in_a_row - 1)
    for _ in range(10):
        with pytest.raises(error), breaker.watching():
            raise error
    assert breaker.is_closed

    fail(breaker)  # the row goes on where it was
    assert breaker.state == "open"


@pytest.mark.parametrize("error", [SaysNo, Killed])
def test_they_give_their_permits_back(breaker: Breaker, clock: Clock, error: type[BaseException]) -> None:
    """More of them than there are permits, and afterwards the trials go on."""
    half_opened(breaker, clock)
    for _ in range(3 * LIMITS.trials):
        with pytest.raises(error), breaker.watching():
            raise error
    assert breaker.state == "half-open"

    succeed(breaker, LIMITS.trials)
    assert breaker.is_closed


@pytest.mark.parametrize("error", [None, Broken()])
def test_a_result_that_comes_late_says_nothing_about_now(
    breaker: Breaker, clock: Clock, error: BaseException | None
) -> None:
    """Begun while it was closed, ended while it is half open: neither a trial's success nor its failure."""
    late = [begun(breaker) for _ in range(LIMITS.trials)]
    half_opened(breaker, clock)
    trial = begun(breaker)

    for call in late:
        end(call, error)

    assert breaker.state == "half-open"
    end(trial)
    succeed(breaker, LIMITS.trials - 1)
    assert breaker.is_closed


# --- How it closes ---------------------------------------------------------------------------------------------------


def test_when_the_time_is_over_some_try_and_the_others_are_refused_meanwhile(breaker: Breaker, clock: Clock) -> None:
    half_opened(breaker, clock)
    answers: list[int] = []
    tries: list[int] = []

    def call(caller: int) -> bool:
        try:
            with breaker.watching():
                tries.append(caller)
                eventually(lambda: len(answers) == 32 - LIMITS.trials)  # all the others have heard
                return True
        except BreakerOpen:
            answers.append(caller)
            return False

    outcomes = at_once(range(32), call)

    assert outcomes.count(True) == len(tries) == LIMITS.trials
    assert breaker.is_closed


def test_whoever_comes_late_to_the_trials_is_not_refused(breaker: Breaker, clock: Clock) -> None:
    """All but one have succeeded, and for a while nobody came: now two come at the same moment."""
    half_opened(breaker, clock)
    succeed(breaker, LIMITS.trials - 1)

    both = [begun(breaker), begun(breaker)]

    for call in both:
        end(call)
    assert breaker.is_closed


def test_it_closes_when_all_trials_have_succeeded_and_not_before(breaker: Breaker, clock: Clock) -> None:
    half_opened(breaker, clock)
    succeed(breaker, LIMITS.trials - 1)
    assert breaker.state == "half-open"

    succeed(breaker)

    assert breaker.is_closed
    succeed(breaker, 100)


@pytest.mark.parametrize("how", ["failed", "slow", "hung"])
def test_one_trial_that_goes_wrong_opens_it_again(breaker: Breaker, clock: Clock, how: str) -> None:
    half_opened(breaker, clock)
    succeed(breaker)
    if how == "failed":
        fail(breaker)
    else:
        trial = begun(breaker)
        clock.pass_by(LIMITS.slow_seconds)
        if how == "slow":
            end(trial)

    assert refused(breaker)
    assert breaker.state == "open"


def test_the_time_doubles_up_to_its_bound_and_begins_anew_after_some_calm(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    times = [breaker.open_seconds_left]
    for _ in range(7):
        clock.pass_by(breaker.open_seconds_left)
        fail(breaker)  # the trial
        times.append(breaker.open_seconds_left)

    for seconds, expected in zip(times, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert expected * (1 - OPEN_SPREAD) <= seconds <= expected * (1 + OPEN_SPREAD)
    assert len(set(times)) == len(times)  # no two processes come back at the same moment

    clock.pass_by(LONG_SECONDS)
    succeed(breaker, LIMITS.trials)
    clock.pass_by(LIMITS.calm_seconds)
    opened(breaker)
    assert breaker.open_seconds_left <= 1 + OPEN_SPREAD


def test_one_that_fails_again_as_soon_as_it_is_closed_has_to_wait_longer(breaker: Breaker, clock: Clock) -> None:
    half_opened(breaker, clock)
    succeed(breaker, LIMITS.trials)

    opened(breaker)

    assert breaker.open_seconds_left >= 2 * (1 - OPEN_SPREAD)


# --- Staff, hints and listeners --------------------------------------------------------------------------------------


def test_forced_open_refuses_until_somebody_says_otherwise(breaker: Breaker, clock: Clock) -> None:
    breaker.force_open()
    clock.pass_by(LONG_SECONDS)
    assert refused(breaker)
    assert breaker.state == "forced open"

    breaker.automatic()

    succeed(breaker)
    assert breaker.state == "closed"


def test_bypassed_lets_everything_through_and_counts_nothing(breaker: Breaker) -> None:
    opened(breaker)

    breaker.bypass()

    fail(breaker, 10 * LIMITS.failures_in_a_row)
    assert breaker.state == "bypassed"
    breaker.automatic()
    fail(breaker, LIMITS.failures_in_a_row - 1)
    assert breaker.is_closed


def test_a_hint_makes_one_failure_enough_and_opens_nothing_by_itself(breaker: Breaker, clock: Clock) -> None:
    breaker.hint(1.0)
    succeed(breaker)
    assert breaker.is_closed

    clock.pass_by(2 * LIMITS.silence_seconds)
    fail(breaker)

    assert breaker.state == "open"


def test_a_hint_is_forgotten_in_time(breaker: Breaker, clock: Clock) -> None:
    breaker.hint(1.0)
    clock.pass_by(1.0)

    fail(breaker)

    assert breaker.is_closed


@contextmanager
def listening(listener: Callable[[Breaker, str], object]) -> Iterator[None]:
    breakers.listen(listener)
    try:
        yield
    finally:
        breakers.stop_listening(listener)


def test_listeners_hear_of_each_change_and_may_ask_the_breaker(breaker: Breaker, clock: Clock) -> None:
    heard: list[tuple[str, str]] = []
    with listening(lambda changed, state: heard.append((state, changed.state))):
        half_opened(breaker, clock)
        succeed(breaker, LIMITS.trials)

    assert heard == [("open", "open"), ("half-open", "half-open"), ("closed", "closed")]


def test_a_listener_that_breaks_takes_no_call_with_it(breaker: Breaker, clock: Clock) -> None:
    def break_down(*_: Any) -> None:
        raise RuntimeError("the pager is out of order")

    with listening(break_down):
        half_opened(breaker, clock)  # each failure is raised to its caller as it was
        succeed(breaker, LIMITS.trials)

    assert breaker.is_closed


# --- Many at once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failures", [0, LIMITS.failures_in_a_row - 1])
def test_nobody_waits_for_anybody_inside(breaker: Breaker, failures: int) -> None:
    """Eight callers meet inside; pybreaker alone, with its lock around the call, lets one in after the other."""
    inside = threading.Barrier(8)
    fail(breaker, failures)

    def call(_: int) -> bool:
        with breaker.watching():
            inside.wait(PATIENCE_SECONDS)
            return True

    assert at_once(range(8), call) == [True] * 8


def test_failures_of_many_at_once_open_it_once_and_each_hears_its_own(lines: pytest.LogCaptureFixture) -> None:
    breaker, inside = Breaker("the neighbour"), threading.Barrier(16)

    def call(caller: int) -> str:
        try:
            with breaker.watching():
                inside.wait(PATIENCE_SECONDS)
                raise Broken(f"answer to {caller}")
        except Broken as error:
            return str(error)

    assert at_once(range(16), call) == [f"answer to {caller}" for caller in range(16)]
    assert not breaker.is_closed
    assert len(lines.records) == 1


def test_it_says_one_line_when_it_opens_and_one_when_it_closes(
    breaker: Breaker, clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    half_opened(breaker, clock)
    for _ in range(3):
        fail(breaker)  # trials, which are not worth a line
        clock.pass_by(LONG_SECONDS)
    succeed(breaker, LIMITS.trials + 1)

    assert [(record.levelno, record.getMessage()) for record in lines.records] == [
        (logging.ERROR, "the neighbour fails and is left alone: 3 failures in a row: no answer"),
        (logging.WARNING, "the neighbour works again"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("failures_in_a_row", 0), ("failure_share", 1.5), ("slow_seconds", -1), ("open_seconds", 31), ("trials", 0)],
)
def test_a_threshold_that_makes_no_sense_is_refused_with_its_name_and_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be from .* to .*, not {value}"):
        replace(LIMITS, **{name: value})


def test_an_operator_says_how_long_all_of_them_are_left_alone(breaker: Breaker, clock: Clock) -> None:
    breakers.leave_alone(3.0, 4.0)

    opened(breaker)
    assert 3 * (1 - OPEN_SPREAD) <= breaker.open_seconds_left <= 3 * (1 + OPEN_SPREAD)
    clock.pass_by(LONG_SECONDS)
    fail(breaker)

    assert breaker.open_seconds_left <= 4 * (1 + OPEN_SPREAD)
    with pytest.raises(ValueError, match="open_seconds must be from"):
        breakers.leave_alone(5.0, 4.0)
