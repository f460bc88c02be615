"""A view as expensive as a page of a large shop: 5 ms of Python and 10 ms of waiting for others, in three houses.

Paths are `/<importance>/<shard>`; `/livez` is free. Five milliseconds of a processor make 200 answers a second of it.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from resilience.admission import Budgets, Verdict, WaitingRoom
from shop.local.processes import WEB_THREADS

CPU_SECONDS, WAIT_SECONDS = 0.005, 0.010
#: While one waits, others work: so many keep the processor busy, and more would only take longer together.
SLOTS = math.ceil((CPU_SECONDS + WAIT_SECONDS) / CPU_SECONDS)
#: Seconds in which nobody's turn can come.
NO_TIME_SECONDS = 1e-6

BUSY = b"busy, please try again in a moment\n"
REFUSED_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BUSY))), ("Retry-After", "2")]
DONE = b"x" * 2_000

Environ, Start = dict[str, Any], Callable[..., Any]


def without(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """As WSGI has it: who comes is served, in the order of arrival."""
    if environ["PATH_INFO"] != "/livez":
        _work()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(DONE)))])
    return [DONE]


class BehindARoom:
    """The same, for those whom the room lets in."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/livez":
            return without(environ, start_response)
        _, importance, shard = environ["PATH_INFO"].split("/")
        if self._room.enter(int(importance), int(shard)) is not Verdict.ADMITTED:
            start_response("503 Service Unavailable", REFUSED_HEADERS)
            return [BUSY]
        try:
            return without(environ, start_response)
        finally:
            self._room.leave()


def full_room() -> WaitingRoom:
    """A room whose only slot is taken for ever, and where nobody may wait: what a refusal costs is measured there."""
    room = WaitingRoom(1, WEB_THREADS, Budgets(*[NO_TIME_SECONDS] * 4))
    room.enter(0, 0)
    return room


within = BehindARoom(WaitingRoom(SLOTS, WEB_THREADS))
refusing = BehindARoom(full_room())


def _work() -> None:
    until = time.thread_time() + CPU_SECONDS  # of this thread alone, however many others there are
    while time.thread_time() < until:
        sum(range(100))
    time.sleep(WAIT_SECONDS)
