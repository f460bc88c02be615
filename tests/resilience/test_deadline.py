"""A deadline is shortened by whoever is inside, and lengthened by nobody."""

import math
import threading
from contextvars import copy_context

import pytest

from resilience import deadline
from resilience.clock import now_ms
from resilience.deadline import DeadlinePassed

#: Seconds that no test takes.
LONG, LONGER = 60.0, 600.0


def test_without_a_deadline_a_client_has_its_own_time() -> None:
    """Nobody has said until when: as long as the client itself allows."""
    assert deadline.left_seconds() == math.inf
    assert deadline.timeout(LONG) == LONG


def test_a_client_gets_what_is_left() -> None:
    """Its own time if that is less, else the rest of the request's."""
    with deadline.within(LONG):
        assert deadline.timeout(1.0) == 1.0
        assert 0 < deadline.timeout(LONGER) <= LONG


def test_nobody_inside_lengthens_it() -> None:
    """An inner deadline may be earlier, never later, and ends with its block."""
    with deadline.within(LONG):
        with deadline.within(LONGER):
            assert deadline.left_seconds() <= LONG
        with deadline.within(1.0):
            assert deadline.left_seconds() <= 1.0
        assert deadline.left_seconds() > 1.0
    assert deadline.left_seconds() == math.inf


def test_nothing_begins_after_it() -> None:
    """There is nothing left, which is never less than nothing, and whoever would begin hears it."""
    with deadline.within(0):
        assert deadline.left_seconds() == 0
        with pytest.raises(DeadlinePassed):
            deadline.timeout(LONG)
        with pytest.raises(DeadlinePassed):
            deadline.check()


def test_nothing_begins_just_before_it() -> None:
    """A trip that cannot come back in time is not worth its cost to whom it would ask."""
    with deadline.within(deadline.LEAST_SECONDS / 2), pytest.raises(DeadlinePassed):
        deadline.timeout(LONG)


def test_the_time_in_the_queue_counts() -> None:
    """A request that waited a minute before anybody looked at it has no minute more."""
    with deadline.within(LONG, arrived_at_ms=now_ms() - int(LONG * 1000)):
        assert deadline.left_seconds() == 0


def test_an_arrival_in_the_future_gives_nobody_more() -> None:
    """The clock of whoever stamped it is ahead of ours."""
    with deadline.within(LONG, arrived_at_ms=now_ms() + int(LONGER * 1000)):
        assert deadline.left_seconds() <= LONG


def test_an_error_ends_the_block() -> None:
    """What comes after is not bound by it."""
    with pytest.raises(ZeroDivisionError), deadline.within(1.0):
        raise ZeroDivisionError

    assert deadline.left_seconds() == math.inf


def test_a_thread_has_the_deadline_of_its_context_alone() -> None:
    """Of two threads one has been given the context; the other is bound by nothing."""
    left: list[float] = []
    with deadline.within(LONG):
        with_it = threading.Thread(target=copy_context().run, args=[lambda: left.append(deadline.left_seconds())])
        without = threading.Thread(target=lambda: left.append(deadline.left_seconds()))
        for thread in (with_it, without):
            thread.start()
            thread.join()

    assert left[0] <= LONG
    assert left[1] == math.inf
