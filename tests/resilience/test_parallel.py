"""Many reads at once: in order, in time, with all that the caller has, and without a thread that nobody gives back."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import translation

from resilience import deadline, parallel
from resilience.deadline import DeadlinePassed
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.forked import works_in_a_fork

#: Seconds of a deadline that is kept, in a test that shall see it pass.
SOON = 0.05


class Gate:
    """Keeps those who come until it is opened, and counts them."""

    def __init__(self) -> None:
        self._open, self._counting = threading.Event(), threading.Lock()
        self.came = self.inside = self.most_inside = 0

    def __call__(self) -> str:
        with self._counting:
            self.came += 1
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self._open.wait(PATIENCE_SECONDS)
        with self._counting:
            self.inside -= 1
        return threading.current_thread().name

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Open after the test, so that no thread is left behind it."""
    gate = Gate()
    yield gate
    gate.open()
    eventually(all_threads_are_free)


def all_threads_are_free() -> bool:
    return parallel._pool._free._value == parallel.THREADS  # type: ignore[attr-defined]


def doubled(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


# --- A long list


@pytest.mark.parametrize(("items", "portions"), [(1, 1), (10, 1), (11, 2), (4_000, 400)])
def test_results_come_in_order_and_in_portions(items: int, portions: int) -> None:
    """One result for each item, at the item's place, out of as few calls as hold them."""
    calls: list[int] = []

    def double(numbers: list[int]) -> list[int]:
        calls.append(len(numbers))
        return doubled(numbers)

    assert parallel.map(double, range(items), at_once=10) == doubled(list(range(items)))
    assert len(calls) == portions
    assert max(calls) <= 10


@pytest.mark.parametrize("nothing", [[], (), iter([])])
def test_no_items_make_no_call(nothing: Any) -> None:
    """Nor does a page without sources."""
    assert parallel.map(lambda _: pytest.fail("called"), nothing, at_once=10) == []
    assert parallel.gather() == {}


def test_a_function_that_loses_a_result_is_found_out() -> None:
    """Otherwise everybody behind it would get somebody else's."""
    with pytest.raises(ValueError, match="1 results for 2 items"):
        parallel.map(lambda portion: portion[1:], [1, 2], at_once=2)


def test_portions_of_nothing_are_refused() -> None:
    """They would go on for ever."""
    with pytest.raises(ValueError, match="at_once"):
        parallel.map(doubled, [1], at_once=0)


# --- Different sources


def test_different_sources_are_read_at_the_same_moment() -> None:
    """Each waits until the other has begun: one after the other, neither would come to an end."""
    both = threading.Barrier(2)

    def read(what: str) -> str:
        both.wait(PATIENCE_SECONDS)
        return what

    found = parallel.gather(order=lambda: read("an order"), stock=lambda: read("a stock"))

    assert found == {"order": "an order", "stock": "a stock"}


# --- Errors


def test_the_first_error_is_raised_at_once(gate: Gate) -> None:
    """Nobody waits for the other source, which is still at it."""

    def broken() -> None:
        eventually(lambda: gate.inside)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parallel.gather(slow=gate, broken=broken)

    assert gate.inside == 1
    assert not all_threads_are_free()


def test_after_ctrl_c_nothing_more_begins(gate: Gate) -> None:
    """Whoever waits is gone; what threads have begun ends, and they begin nothing else."""

    first = threading.Lock()

    def interrupt(_: list[int]) -> list[str]:
        if first.acquire(blocking=False):
            eventually(lambda: gate.inside == parallel.THREADS_OF_ONE_CALL - 1)  # so that the caller only waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return [gate()]

    with pytest.raises(KeyboardInterrupt):
        parallel.map(interrupt, range(100), at_once=1)
    gate.open()

    eventually(all_threads_are_free)
    assert gate.came <= parallel.THREADS_OF_ONE_CALL


def test_after_an_error_nothing_more_begins() -> None:
    """Of ten thousand portions no more than a few were under way."""
    begun: list[int] = []

    def fail(numbers: list[int]) -> list[int]:
        begun.extend(numbers)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parallel.map(fail, range(10_000), at_once=1)

    eventually(all_threads_are_free)
    assert len(begun) <= parallel.THREADS_OF_ONE_CALL


def test_errors_can_be_collected() -> None:
    """Who can do with less gets what there is, and each error where an answer would have been."""
    error = ZeroDivisionError()

    def fail_on_three(numbers: list[int]) -> list[int]:
        if 3 in numbers:
            raise error
        return doubled(numbers)

    assert parallel.map(fail_on_three, range(6), at_once=2, on_error="collect") == [0, 2, error, error, 8, 10]
    found = parallel.gather(on_error="collect", good=lambda: 1, bad=lambda: fail_on_three([3]))
    assert found == {"good": 1, "bad": error}


# --- The deadline


def test_nobody_waits_longer_than_the_deadline(gate: Gate) -> None:
    """A source that hangs is left alone when the time is over."""
    with deadline.within(SOON), pytest.raises(DeadlinePassed):
        parallel.gather(quick=lambda: 1, hangs=gate)

    assert gate.inside == 1


def test_what_came_in_time_is_collected(gate: Gate) -> None:
    """And what did not says so."""
    with deadline.within(SOON):
        found = parallel.gather(on_error="collect", quick=lambda: 1, hangs=gate)

    assert found["quick"] == 1
    assert isinstance(found["hangs"], DeadlinePassed)


def test_nothing_begins_after_the_deadline(gate: Gate) -> None:
    """Of a hundred portions those that had a thread have begun; when they come to an end, the others do not begin."""
    with deadline.within(SOON), pytest.raises(DeadlinePassed):
        parallel.map(lambda _: [gate()], range(100), at_once=1)
    gate.open()

    eventually(all_threads_are_free)
    assert gate.came == parallel.THREADS_OF_ONE_CALL


def test_nothing_begins_for_somebody_who_has_gone() -> None:
    """Neither on another thread nor, where one source needs none, on the caller's own."""

    def read() -> None:
        pytest.fail("nobody waits for this")

    with deadline.within(0):
        for sources in ({"one": read}, {"one": read, "other": read}):
            with pytest.raises(DeadlinePassed):
                parallel.gather(**sources)


def test_sources_know_the_deadline() -> None:
    """A client on another thread gets no more time than the caller has."""
    with deadline.within(PATIENCE_SECONDS):
        left = parallel.gather(one=deadline.left_seconds, other=deadline.left_seconds)

    assert max(left.values()) <= PATIENCE_SECONDS


# --- Threads


def test_a_call_gets_a_part_of_the_threads(gate: Gate) -> None:
    """A list of a thousand has some of them at work, and leaves the others to others."""
    caller = threading.Thread(target=lambda: parallel.map(lambda _: [gate()], range(1_000), at_once=1))
    caller.start()
    eventually(lambda: gate.inside == parallel.THREADS_OF_ONE_CALL)

    assert parallel.gather(a=lambda: 1, b=lambda: 2) == {"a": 1, "b": 2}
    gate.open()
    caller.join(PATIENCE_SECONDS)

    assert gate.most_inside == parallel.THREADS_OF_ONE_CALL
    assert gate.came == 1_000


def test_who_finds_no_free_thread_does_it_alone(gate: Gate) -> None:
    """All threads hang: a caller gets its answers all the same, and nothing is left in a queue."""
    crowd = [
        threading.Thread(target=lambda: parallel.gather(**{f"source_{n}": gate for n in range(16)}))
        for _ in range(parallel.THREADS // parallel.THREADS_OF_ONE_CALL)
    ]
    for caller in crowd:
        caller.start()
    eventually(lambda: gate.inside == parallel.THREADS)

    names = parallel.map(lambda portion: [threading.current_thread().name] * len(portion), range(100), at_once=1)

    assert set(names) == {threading.current_thread().name}
    assert parallel._pool._threads._work_queue.qsize() == 0
    gate.open()
    for caller in crowd:
        caller.join(PATIENCE_SECONDS)


def test_nested_calls_do_not_wait_for_one_another() -> None:
    """More callers than threads, each of whose sources fans out again, and those once more: all come to an end."""

    def leaves(numbers: list[int]) -> list[int]:
        return parallel.map(doubled, numbers, at_once=1)

    def branches(numbers: list[int]) -> list[int]:
        return parallel.map(leaves, numbers, at_once=4)

    answers = at_once(range(parallel.THREADS + 8), lambda _: parallel.map(branches, range(64), at_once=8))

    assert answers == [doubled(list(range(64)))] * (parallel.THREADS + 8)
    assert all_threads_are_free()


def test_a_fork_has_threads_of_its_own(gate: Gate) -> None:
    """Forked while all threads of the parent are at work."""
    caller = threading.Thread(target=lambda: parallel.map(lambda _: [gate()], range(100), at_once=1))
    caller.start()
    eventually(lambda: gate.inside == parallel.THREADS_OF_ONE_CALL)

    def sources_on_other_threads() -> None:
        both = threading.Barrier(2)
        parallel.gather(one=lambda: both.wait(PATIENCE_SECONDS), other=lambda: both.wait(PATIENCE_SECONDS))
        assert parallel._pool._free._value == parallel.THREADS  # type: ignore[attr-defined]

    assert works_in_a_fork(sources_on_other_threads)
    gate.open()
    caller.join(PATIENCE_SECONDS)


# --- What a thread has, and gives back

_asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


def two_of(read: Callable[[], Any]) -> list[Any]:
    """What two threads of the pool see, both of which are there."""
    both = threading.Barrier(2)

    def look() -> Any:
        both.wait(PATIENCE_SECONDS)
        return read()

    return list(parallel.gather(one=look, other=look).values())


def test_threads_have_the_context_of_their_caller() -> None:
    """And none of another caller's afterwards."""
    token = _asked_by.set("somebody")
    assert two_of(_asked_by.get) == ["somebody"] * 2
    _asked_by.reset(token)

    assert two_of(_asked_by.get) == ["nobody"] * 2


def test_threads_speak_the_language_of_their_caller() -> None:
    """Which Django keeps for each thread; as `shop.wiring` has it carried over."""
    for language in ("zh-hans", "en"):
        with translation.override(language):
            assert two_of(translation.get_language) == [language] * 2


def test_connections_are_given_back(transactional_db: None) -> None:
    """A thread that asked PostgreSQL has no connection when its call is over; the caller keeps its own."""
    connection.ensure_connection()
    asked: list[Any] = []

    def ask() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        asked.append(connections["default"])
        return threading.get_ident()

    threads = two_of(ask)

    assert len({*threads, threading.get_ident()}) == 3
    assert [each.connection for each in asked] == [None, None]
    assert connection.connection is not None


def test_what_a_thread_borrowed_comes_back_after_an_error() -> None:
    """Once for each thread that helped, whatever became of its work."""
    entered, left = [], []

    @contextmanager
    def counted() -> Iterator[None]:
        entered.append(threading.get_ident())
        try:
            yield
        finally:
            left.append(threading.get_ident())

    with surroundings(counted), pytest.raises(ZeroDivisionError):
        parallel.map(lambda _: [1 // 0], range(10), at_once=1)
    eventually(all_threads_are_free)

    assert sorted(entered) == sorted(left)
    assert threading.get_ident() not in entered


@contextmanager
def surroundings(handed_in: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    before = parallel._pool.surroundings
    parallel.install(handed_in)
    try:
        yield
    finally:
        parallel.install(before)
