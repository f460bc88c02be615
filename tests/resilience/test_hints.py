"""A process that hears of another one's open breaker needs one failure of its own, and no fewer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count

import pytest
from django_redis import get_redis_connection

from resilience import breaker as breakers
from resilience.breaker import Breaker
from resilience.cache_redis import guard_of
from resilience.hints import Hints, HintThread
from tests.crowd import eventually
from tests.forked import works_in_a_fork

ALIAS = "redis"

_names = count(1)


@pytest.fixture
def breaker() -> Breaker:
    """Under a name that no other test has."""
    return Breaker(f"the neighbour {next(_names)}")


@pytest.fixture
def hints(request: pytest.FixtureRequest) -> Hints:
    return Hints(ALIAS, prefix=f"{request.node.name}:")


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="no answer"), breaker.watching():
            raise OSError("no answer")


@contextmanager
def listening(hints: Hints) -> Iterator[None]:
    breakers.listen(hints.tell)
    try:
        yield
    finally:
        breakers.stop_listening(hints.tell)


def open_elsewhere(breaker: Breaker, hints: Hints) -> None:
    """In another process, which tells of it and ends."""

    def work() -> None:
        with listening(hints):
            fail(breaker, breaker.thresholds.failures_in_a_row)
        hints.tick()

    assert works_in_a_fork(work)


def test_one_failure_is_enough_where_another_process_has_had_its_own(breaker: Breaker, hints: Hints) -> None:
    open_elsewhere(breaker, hints)

    hints.tick()
    assert breaker.is_closed

    fail(breaker)
    assert not breaker.is_closed


def test_nobody_hears_of_others_breakers(breaker: Breaker, hints: Hints) -> None:
    other = Breaker(f"{breaker.name} as well")
    open_elsewhere(breaker, hints)

    hints.tick()

    fail(other)
    assert other.is_closed


def test_without_a_hint_one_failure_is_not_enough(breaker: Breaker, hints: Hints) -> None:
    hints.tick()

    fail(breaker)

    assert breaker.is_closed


def test_a_cache_redis_that_hangs_is_no_matter(
    breaker: Breaker, hints: Hints, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Nothing is raised, nothing opens but its own breaker, and what others say is heard when it is back."""
    open_elsewhere(breaker, hints)
    with frozen("redis-cache"), listening(hints):
        for _ in range(10):
            hints.tick()
        assert breaker.is_closed
        assert not guard_of(ALIAS).breaker.is_closed

    guard_of(ALIAS).breaker.start_over()
    open_elsewhere(breaker, hints)
    hints.tick()
    fail(breaker)
    assert not breaker.is_closed


def test_a_thread_of_each_process_does_it(breaker: Breaker, hints: Hints) -> None:
    """Also of a forked one, which has inherited none."""
    thread = HintThread(hints)
    thread.start()
    thread.start()

    def work() -> None:
        thread.start()
        fail(breaker, breaker.thresholds.failures_in_a_row)
        eventually(lambda: get_redis_connection(ALIAS).exists(hints._key(breaker.name)))

    try:
        assert works_in_a_fork(work)
        eventually(lambda: breaker._hinted_until > breaker._clock())
    finally:
        thread.end()
    fail(breaker)
    assert not breaker.is_closed
