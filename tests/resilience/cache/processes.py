"""Readers in processes of their own: each a real one with its own memory, at the same Redis and memcached."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

from tests.crowd import PATIENCE_SECONDS
from tests.fork_servers import ForkServer

_context = multiprocessing.get_context("forkserver")
_forks = ForkServer(["tests.resilience.cache.reader"])

#: `work(cache, index, *arguments)` in one thread of one process. It answers something that can be pickled.
Work = Callable[..., Any]


@contextmanager
def processes(count: int, options: dict[str, Any], location: str) -> Iterator[list["ReaderProcess"]]:
    """That many, each with the cache of these options, warm and waiting for work; gone afterwards."""
    started = [ReaderProcess(options, location) for _ in range(count)]
    try:
        for each in started:
            each.wait_until_ready()
        yield started
    finally:
        for each in started:
            each.end()


class ReaderProcess:
    def __init__(self, options: dict[str, Any], location: str) -> None:
        from tests.resilience.cache import reader

        self._pipe, theirs = _context.Pipe()
        self.process: ForkServerProcess = _context.Process(
            target=reader.main, args=(theirs, options, location), daemon=True
        )
        _forks.start(self.process)
        theirs.close()

    def wait_until_ready(self) -> None:
        assert self._answer() == "ready"

    def ask(self, work: Work, *arguments: Any, threads: int = 1, start_at: float = 0.0) -> None:
        """Begin the work in so many threads, all at that time (time.time()); `result` waits for the answers."""
        self._pipe.send((work, arguments, threads, start_at))

    def result(self) -> list[Any]:
        """What each thread answered. Raises what one of them raised."""
        answer = self._answer()
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)

    def _answer(self) -> Any:
        assert self._pipe.poll(PATIENCE_SECONDS), "a reader does not answer"
        return self._pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        self._pipe.close()
        self.process.kill()
        self.process.join()


#: Seconds from the question to the common start: until the last process has heard it.
RUN_UP_SECONDS = 0.2


def all_at_once(readers: Sequence[ReaderProcess], work: Work, *arguments: Any, threads: int) -> list[Any]:
    """What each thread of each process answered to `work(cache, index, *arguments)`, all started at one moment."""
    start_at = time.time() + RUN_UP_SECONDS
    for each in readers:
        each.ask(work, *arguments, threads=threads, start_at=start_at)
    return [answer for each in readers for answer in each.result()]
