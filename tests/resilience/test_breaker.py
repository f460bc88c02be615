"""When it opens, whom it lets try, and that nobody waits for anybody inside."""

import logging
import threading
from collections.abc import Callable

import pytest

from resilience.breaker import FAILURES_MAXIMUM, Breaker, BreakerOpen
from tests.crowd import PATIENCE_SECONDS, at_once, eventually

#: A rest whose end no test sees, and one that is over at once.
LONG_REST_SECONDS, NO_REST_SECONDS = 1_000.0, 0.0


class Broken(Exception):
    pass


class Killed(BaseException):
    pass


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


@pytest.fixture
def lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> pytest.LogCaptureFixture:
    """By a logger of this test alone: of one that all tests use, some may be left out because there were many."""
    monkeypatch.setattr("resilience.breaker.logger", logging.getLogger(f"breaker.{request.node.name}"))
    return caplog


@pytest.fixture
def breaker() -> Breaker:
    return Breaker("memcached", rest_seconds=LONG_REST_SECONDS)


def opened(rest_seconds: float) -> Breaker:
    breaker = Breaker("memcached", rest_seconds=rest_seconds)
    fail(breaker, FAILURES_MAXIMUM)
    return breaker


def test_after_some_failures_in_a_row_nothing_is_called_any_more(breaker: Breaker) -> None:
    fail(breaker, FAILURES_MAXIMUM)

    assert not breaker.is_closed
    with pytest.raises(BreakerOpen), breaker.watching():
        pytest.fail("this was called")


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, FAILURES_MAXIMUM - 1)
        assert not refused(breaker)

    assert breaker.is_closed


def test_a_killed_caller_says_nothing_about_what_it_called(breaker: Breaker) -> None:
    fail(breaker, FAILURES_MAXIMUM - 1)
    with pytest.raises(Killed), breaker.watching():
        raise Killed
    assert breaker.is_closed

    fail(breaker)
    assert not breaker.is_closed


def test_when_the_rest_is_over_one_of_many_tries_and_the_others_are_refused_meanwhile() -> None:
    breaker = opened(NO_REST_SECONDS)
    breaker._rest_seconds = LONG_REST_SECONDS  # the next one
    tries = []

    def call(caller: int) -> bool:
        try:
            with breaker.watching():
                tries.append(caller)
                eventually(lambda: len(answers) == 31)  # all the others have heard
                return True
        except BreakerOpen:
            answers.append(caller)
            return False

    answers: list[int] = []
    outcomes = at_once(range(32), call)

    assert outcomes.count(True) == 1
    assert len(tries) == 1
    assert breaker.is_closed


def test_a_success_after_the_rest_lets_everybody_in_again() -> None:
    breaker = opened(NO_REST_SECONDS)

    assert not refused(breaker)
    assert breaker.is_closed
    assert not any(refused(breaker) for _ in range(10))


def test_a_failure_after_the_rest_begins_another_rest() -> None:
    breaker = opened(NO_REST_SECONDS)
    breaker._rest_seconds = LONG_REST_SECONDS

    fail(breaker)

    assert refused(breaker)
    assert not breaker.is_closed


def test_one_that_was_killed_while_it_tried_does_not_keep_the_others_out() -> None:
    breaker = opened(NO_REST_SECONDS)
    with pytest.raises(Killed), breaker.watching():
        raise Killed

    assert not refused(breaker)
    assert breaker.is_closed


@pytest.mark.parametrize("made", [lambda: Breaker("closed"), lambda: half_known(Breaker("with failures"))])
def test_nobody_waits_for_anybody_inside(made: Callable[[], Breaker]) -> None:
    """Eight callers meet inside; pybreaker alone, with its lock around the call, lets one in after the other."""
    breaker, inside = made(), threading.Barrier(8)

    def call(_: int) -> bool:
        with breaker.watching():
            inside.wait(PATIENCE_SECONDS)
            return True

    assert at_once(range(8), call) == [True] * 8


def half_known(breaker: Breaker) -> Breaker:
    fail(breaker, FAILURES_MAXIMUM - 1)
    return breaker


def test_failures_of_many_at_once_open_it_once_and_each_hears_its_own(lines: pytest.LogCaptureFixture) -> None:
    breaker, inside = Breaker("memcached", rest_seconds=LONG_REST_SECONDS), threading.Barrier(16)

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


def test_it_says_one_line_when_it_opens_and_one_when_it_closes(lines: pytest.LogCaptureFixture) -> None:
    breaker = opened(NO_REST_SECONDS)
    fail(breaker, 3)  # trials, which are not worth a line
    assert not refused(breaker)
    assert not refused(breaker)

    assert [(record.levelno, record.getMessage()) for record in lines.records] == [
        (logging.ERROR, "memcached fails and is left alone: no answer"),
        (logging.WARNING, "memcached works again"),
    ]
