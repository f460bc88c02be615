"""Reading from many places at once, on one pool of threads that the whole process shares.

    pages = parallel.map(read_many, ids, at_once=500)            # a long list, in portions
    found = parallel.gather(order=read_order, stock=read_stock)  # different sources: {"order": ..., "stock": ...}

Portions belong to nobody: each thread takes the next one until none is left. A call invites no more threads than are
free at that moment, so nothing waits in a queue, and who finds none does the work itself. Otherwise the caller only
waits, and leaves at its deadline: what has begun goes on without it, and nothing more begins. A thread of the pool that
fans out again is a caller like any other: it waits for threads that are at work already, never for one that may not
come.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar, overload

from resilience import deadline
from resilience.deadline import DeadlinePassed

#: Threads of a process, for all calls together. They wait for others nearly all the time; more of them would only wait
#: for Python's lock, and wake up late.
THREADS = 32
#: Threads that one call gets: more than sources of a page, and a long list leaves some to others.
THREADS_OF_ONE_CALL = 16

Item = TypeVar("Item")
Result = TypeVar("Result")
OnError = Literal["raise", "collect"]
Call = Callable[[], Any]

#: Called by the caller for each thread that helps: what the thread does its work in. It carries over what the context
#: does not, and gives back what the thread borrowed; see `install`.
Surroundings = Callable[[], AbstractContextManager[object]]


@overload
def map(function: Callable[[list[Item]], Sequence[Result]], items: Iterable[Item], *, at_once: int) -> list[Result]: ...
@overload
def map(
    function: Callable[[list[Item]], Sequence[Result]], items: Iterable[Item], *, at_once: int, on_error: OnError
) -> list[Result | Exception]: ...
def map(
    function: Callable[[list[Item]], Sequence[Result]],
    items: Iterable[Item],
    *,
    at_once: int,
    on_error: OnError = "raise",
) -> list[Any]:
    """A result for each item, in order; `function` gets up to `at_once` of them and answers one for each. No items, no
    call.

    The first error is raised at once, or DeadlinePassed. With `on_error="collect"` each item of a portion that failed
    has the error in the place of its result, and DeadlinePassed when it came too late.
    """
    if at_once < 1:
        raise ValueError(f"at_once must be 1 or more, not {at_once}")
    portions = list(_portions(items, at_once))
    done = _do_all([partial(_answer, function, portion) for portion in portions], on_error)
    answers: list[Any] = []
    for portion, answer in zip(portions, done, strict=True):
        answers += [answer.error] * len(portion) if isinstance(answer, _Failure) else answer
    return answers


def _portions(items: Iterable[Item], at_once: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while portion := list(islice(rest, at_once)):
        yield portion


def _answer(function: Callable[[list[Item]], Sequence[Result]], portion: list[Item]) -> Sequence[Result]:
    results = function(portion)
    if len(results) != len(portion):
        raise ValueError(f"{len(results)} results for {len(portion)} items")
    return results


def gather(*, on_error: OnError = "raise", **sources: Callable[[], Any]) -> dict[str, Any]:
    """What each of the sources answers, by its name. Errors and lateness are as in `map`: raised, or in the place of
    the answers that they keep from coming."""
    done = _do_all(list(sources.values()), on_error)
    return {
        name: answer.error if isinstance(answer, _Failure) else answer
        for name, answer in zip(sources, done, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Failure:
    """In the place of an answer."""

    error: Exception


def _do_all(calls: Sequence[Call], on_error: OnError) -> list[Any]:
    work = _Work(calls, collecting=on_error == "collect")
    try:
        helping = _pool.invite(work.do, len(calls)) if len(calls) > 1 else []
        if not helping:
            work.do()
        left = deadline.left_seconds()
        done, late = wait(helping, None if left == math.inf else left, FIRST_EXCEPTION)
        for helped in done:
            helped.result()
        if late and not work.collecting:
            raise DeadlinePassed("some have not answered yet")
    finally:
        work.stop()
    return list(work.answers)


class _Work:
    """Calls, to be made by whoever takes them, and what came of each."""

    def __init__(self, calls: Sequence[Call], *, collecting: bool) -> None:
        self.collecting = collecting
        self.answers: list[Any] = [_Failure(DeadlinePassed("no answer yet"))] * len(calls)
        self._left: Iterator[tuple[int, Call]] = iter(enumerate(calls))
        self._taking = threading.Lock()

    def do(self) -> None:
        """Take the next call until there is none. Raises what one raised, unless errors are collected."""
        while taken := self._take():
            at, call = taken
            try:
                deadline.check()
                self.answers[at] = call()
            except Exception as error:
                if not self.collecting:
                    self.stop()
                    raise
                self.answers[at] = _Failure(error)

    def _take(self) -> tuple[int, Call] | None:
        with self._taking:
            return next(self._left, None)

    def stop(self) -> None:
        """Nobody takes any more."""
        with self._taking:
            self._left = iter(())


class _Pool:
    def __init__(self) -> None:
        self.surroundings: Surroundings = nullcontext
        self.start_over()

    def start_over(self) -> None:
        """As new, also in a forked child, which has none of the threads."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="parallel")
        self._free = threading.Semaphore(THREADS)

    def invite(self, do: Callable[[], None], most: int) -> list[Future[None]]:
        """Have free threads do it, as many as there are up to the most; answers their futures."""
        invited: list[Future[None]] = []
        while len(invited) < min(most, THREADS_OF_ONE_CALL) and self._free.acquire(blocking=False):
            try:
                invited.append(self._threads.submit(copy_context().run, self._help, self.surroundings(), do))
            except BaseException:  # at the end of Python no thread starts any more
                self._free.release()
                raise
        return invited

    def _help(self, surroundings: AbstractContextManager[object], do: Callable[[], None]) -> None:
        try:
            with surroundings:
                do()
        finally:
            self._free.release()


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.start_over)


def install(surroundings: Surroundings) -> None:
    """Hand in what this package does not know: how a thread comes to what its caller has and no context carries, and
    how it gives back what it borrowed (database connections)."""
    _pool.surroundings = surroundings
