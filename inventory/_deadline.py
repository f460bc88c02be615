"""Connections to Redis that keep a deadline.

The timeout of a socket starts anew with each piece of an answer, so that one which comes byte by byte never runs into
it. Here what is left until the deadline is the timeout of every step: connecting, sending and each read.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from resilience import deadline
from resilience.guard import Passage


class _Deadline:
    """A moment of `time.monotonic()` that a connection and its socket share. None is set at first."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = math.inf

    @property
    def left(self) -> float:
        """Seconds; none, once it has passed: then only what is there already can be read."""
        return max(0.0, self.at - time.monotonic())


class _Socket:
    """A socket of redis-py, also one with TLS. Its parsers read by `recv_into` (hiredis) or `recv` (Python's own)."""

    def __init__(self, plain: Any, deadline: _Deadline) -> None:
        self._plain, self._deadline = plain, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def sendall(self, data: Any) -> None:
        self._hurry()
        self._plain.sendall(data)

    def recv_into(self, *arguments: Any) -> Any:
        self._hurry()
        return self._plain.recv_into(*arguments)

    def recv(self, *arguments: Any) -> Any:
        self._hurry()
        return self._plain.recv(*arguments)

    def _hurry(self) -> None:
        if self._deadline.at < math.inf:
            self._plain.settimeout(self._deadline.left)


class InTime:
    """What `keeping_deadlines` adds to a connection of redis-py."""

    _sock: Any  # redis-py's, None while it is not connected
    socket_timeout: float
    #: Of whoever has borrowed it from a pool with a guard.
    passage: Passage | None = None

    def __init__(self, **how: Any) -> None:
        self._deadline = _Deadline()
        super().__init__(**how)

    def _connect(self) -> _Socket:
        return _Socket(super()._connect(), self._deadline)  # type: ignore[misc]  # of the class beside this one

    def on_connect_check_health(self, **how: Any) -> None:
        """Greet the server: several questions and answers, which together take no longer than any other."""
        with self.within(self.socket_timeout):
            super().on_connect_check_health(**how)  # type: ignore[misc]

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Whatever is said and heard meanwhile is over in so many seconds, or by an earlier deadline around it, that of
        the request among them.

        What comes too late is lost like everything that a broken connection loses: by a RedisError.
        """
        around = self._deadline.at
        self._deadline.at = min(around, time.monotonic() + min(seconds, deadline.left_seconds()))
        try:
            yield
        finally:
            self._end_at(around)

    def hurry(self, seconds: float) -> None:
        """The same until told otherwise; infinitely many: as patient as ever."""
        if seconds < math.inf or self._deadline.at < math.inf:
            self._end_at(time.monotonic() + seconds)

    def _end_at(self, moment: float) -> None:
        self._deadline.at = moment
        if moment == math.inf and self._sock:
            self._sock.settimeout(self.socket_timeout)


def keeping_deadlines(pool: redis.ConnectionPool) -> redis.ConnectionPool:
    """The pool, which has made no connection yet: it will make those of its URL's kind, with InTime."""
    kind = pool.connection_class
    pool.connection_class = type(f"{kind.__name__}InTime", (InTime, kind), {})
    return pool
