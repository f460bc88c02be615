"""So many calls to one dependency at once, and no more: one that hangs takes up its own places and no others.

places = Bulkhead("payment provider", at_once=8)
with places.one():
    ...
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from weakref import WeakSet

from resilience import deadline
from resilience.refused import Refused

#: Seconds that a call waits for a place: as long as a hiccup takes. Longer, and it queues for what is down.
WAIT_SECONDS = 0.01


class Full(Refused):
    """As many as may are asking it already. Nothing was sent."""


class Bulkhead:
    """The places are tokens in a queue written in C: taking one and giving it back cost a quarter of a semaphore."""

    def __init__(self, name: str, *, at_once: int) -> None:
        if at_once < 1:
            raise ValueError(f"{name}: {at_once} calls at once are none")
        self.name = name
        self.at_once = at_once
        self.start_over()
        _bulkheads.add(self)

    def start_over(self) -> None:
        """With all places free, as in a forked child: who had taken them is not there."""
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(self.at_once):
            self._free.put(None)

    @property
    def taken(self) -> int:
        return self.at_once - self._free.qsize()

    def enter_at_once(self) -> bool:
        """Whether there was a place. Whoever got one leaves it."""
        try:
            self._free.get_nowait()
        except Empty:
            return False
        return True

    def enter(self) -> None:
        """Wait a moment for a place, never past the deadline. Raises Full."""
        try:
            self._free.get(timeout=min(WAIT_SECONDS, deadline.left_seconds()))
        except Empty:
            raise Full(f"{self.name}: {self.at_once} calls are under way") from None

    def leave(self) -> None:
        self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()


_bulkheads: "WeakSet[Bulkhead]" = WeakSet()


def _start_over_in_a_fork() -> None:
    for bulkhead in list(_bulkheads):
        bulkhead.start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
