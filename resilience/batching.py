"""Group commit: what many threads ask for at the same moment travels as one batch.

    batcher = Batcher(ask_all, batch_maximum=256, queue_maximum=1024)
    answer = batcher.call(question, deadline=time.monotonic() + 0.3)

There is no timer. Who finds nothing on its way sends at once, alone, on its own thread. Who comes while a batch is
away waits, and all who wait form the next batch, first come first served, sent by a thread that the batcher keeps for
that. At most one batch is away at any moment.

Why two kinds of sender: with a thread that sends everything, a call that is alone pays for two switches of threads,
67 us of CPU instead of 36. With callers alone, of whom each hands the role to one that waits, 64 threads get 30.9k
answers a second instead of 33.5k, and who is handed the role just before its deadline can no longer keep it. The price:
eight threads get 11.6k instead of 12.9k. (Medians of nine runs on two cores; each request was a script in a Redis that
writes to its disk before it answers.)
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from resilience.refused import Refused

Request = TypeVar("Request")
Result = TypeVar("Result")


class NotSent(Refused):
    """The deadline passed while the request waited. It was withdrawn and will never be sent."""


class QueueFull(NotSent):
    """Too many wait already. The request was not taken."""


class AnswerLate(Exception):
    """The request was sent, and its answer did not come by the deadline: what it asked for may have happened."""


class Batcher(Generic[Request, Result]):
    """Turns calls of many threads into few calls of `send`, never two at a time.

    `send` gets the requests of a batch and answers one result for each, in the same sequence. An exception among the
    results is raised to that caller alone; one that `send` raises, to all callers of that batch and no other.
    `send` must come to an end by itself: nothing else is sent before it does.

    `batches`, `requests` and `largest_batch` count what was sent, `waiting` is what would be sent next.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        *,
        batch_maximum: int,
        queue_maximum: int,
    ) -> None:
        self._send = send
        self._batch_maximum = batch_maximum
        self._queue_maximum = queue_maximum
        self.batches = 0
        self.requests = 0
        self.largest_batch = 0
        self._start_over()
        _batchers.add(self)

    def _start_over(self) -> None:
        """As new, also in a forked child, which has inherited locks and calls but none of their threads."""
        self._mutex = threading.Lock()
        self._away = False  # while False, nobody waits
        self._waiting: deque[_Call[Request, Result]] = deque()
        self._thread: threading.Thread | None = None
        self._thread_has_work = threading.Semaphore(0)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def call(self, request: Request, deadline: float) -> Result:
        """The result for a request, by a moment of `time.monotonic()`.

        Raises QueueFull or NotSent when it was not sent and will not be, AnswerLate when it was sent and the deadline
        came first, and what `send` raised or answered for it. A caller that sends by itself stays as long as `send`
        takes: its request is away at once, and the time of `send` is all that it waits.
        """
        if deadline <= time.monotonic():
            raise NotSent("the deadline had passed before the call")

        call = self._queue(request, deadline)
        result = self._send_alone(request) if call is None else self._wait_for(call)
        if isinstance(result, Exception):
            raise result
        return result

    def _queue(self, request: Request, deadline: float) -> _Call[Request, Result] | None:
        """A place in the next batch; None when nothing is away: then the caller has to send, and to pass on."""
        with self._mutex:
            if not self._away:
                self._away = True
                return None
            if len(self._waiting) >= self._queue_maximum:
                raise QueueFull(f"{self._queue_maximum} requests wait already")
            self._have_a_thread()
            call: _Call[Request, Result] = _Call(request, deadline)
            self._waiting.append(call)
            return call

    def _have_a_thread(self) -> None:
        """Before anybody waits for it: where none can be started the caller hears so, and nobody is stranded."""
        if self._thread is None:
            thread = threading.Thread(target=self._send_batches, name="batcher", daemon=True)
            thread.start()
            self._thread = thread

    def _send_alone(self, request: Request) -> Result | Exception:
        try:
            return self._send_counted([request])[0]
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        with self._mutex:
            if self._waiting:
                self._thread_has_work.release()
            else:
                self._away = False

    def _wait_for(self, call: _Call[Request, Result]) -> Result | Exception:
        try:
            in_time = call.is_answered(call.deadline - time.monotonic())
        except BaseException:  # Ctrl-C: nobody is left to hear the answer
            self._withdraw(call)
            raise
        if in_time:
            return call.result
        if self._withdraw(call):
            raise NotSent("the deadline passed before the request was sent")
        if call.is_answered(0):  # at the last moment, or taken out of the queue by the sender for being late
            return call.result
        raise AnswerLate("the request was sent, and its answer did not come by the deadline")

    def _withdraw(self, call: _Call[Request, Result]) -> bool:
        """Whether the call was still waiting. Then it will not be sent."""
        with self._mutex:
            try:
                self._waiting.remove(call)
            except ValueError:
                return False
            return True

    def _send_batches(self) -> None:
        while True:
            self._thread_has_work.acquire()
            while batch := self._next_batch():
                results = self._results([call.request for call in batch])
                for call, result in zip(batch, results, strict=True):
                    call.answer(result)

    def _next_batch(self) -> list[_Call[Request, Result]]:
        """Those who wait longest; none when nobody waits, and then nothing is away any more."""
        batch: list[_Call[Request, Result]] = []
        with self._mutex:
            now = time.monotonic()
            while self._waiting and len(batch) < self._batch_maximum:
                call = self._waiting.popleft()
                if call.deadline > now:
                    batch.append(call)
                else:  # its caller has not woken up yet to withdraw it
                    call.answer(NotSent("the deadline passed before the request was sent"))
            self._away = bool(batch)
        return batch

    def _results(self, requests: list[Request]) -> Sequence[Result | Exception]:
        try:
            return self._send_counted(requests)
        except Exception as error:
            return [error] * len(requests)
        except BaseException as error:  # meant for one thread, not for all that wait; and this one has work to do
            return [AnswerLate(f"sending was interrupted by {error!r}")] * len(requests)

    def _send_counted(self, requests: list[Request]) -> Sequence[Result | Exception]:
        self.batches += 1
        self.requests += len(requests)
        self.largest_batch = max(self.largest_batch, len(requests))

        results = self._send(requests)
        if len(results) != len(requests):
            raise ValueError(f"{len(results)} results for {len(requests)} requests")
        return results


class _Call(Generic[Request, Result]):
    """A request, and the lock at which its caller waits, freed once, by the answer: 0.4 us, where an Event takes 3."""

    __slots__ = ("_unanswered", "deadline", "request", "result")

    def __init__(self, request: Request, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.result: Result | Exception
        self._unanswered = threading.Lock()
        self._unanswered.acquire()

    def answer(self, result: Result | Exception) -> None:
        self.result = result
        self._unanswered.release()

    def is_answered(self, seconds: float) -> bool:
        """Wait that long for the answer."""
        return self._unanswered.acquire(timeout=max(seconds, 0.0))


_batchers: WeakSet[Batcher[Any, Any]] = WeakSet()


def _start_over_in_a_fork() -> None:
    for batcher in list(_batchers):
        batcher._start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
