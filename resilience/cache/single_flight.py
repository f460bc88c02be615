"""One reader of a key goes on its way, the others of this process wait for what it brings.

After groupcache's `singleflight`. Different here: a leader that was killed (a BaseException, such as a greenlet's end)
sends its followers on their own way instead of killing them, and a key that was invalidated gets a new flight at
once."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any


class LeaderGone(Exception):
    """The reader that was followed was killed on its way: try again."""


Flight = Future[Any]


class Flights:
    def __init__(self) -> None:
        self._under_way: dict[str, Flight] = {}
        self._changing = threading.Lock()

    def claim(self, names: Iterable[str]) -> tuple[dict[str, Flight], dict[str, Flight]]:
        """The flights that the caller leads from now on, and those that are led by others. It must end each of its own,
        and before it waits for any other: then no two callers can wait for each other."""
        own, others = {}, {}
        with self._changing:
            for name in names:
                flight = self._under_way.get(name)
                if flight is None:
                    own[name] = self._under_way[name] = Future()
                else:
                    others[name] = flight
        return own, others

    def land(self, name: str, flight: Flight, value: Any) -> None:
        self._end(name, flight)
        flight.set_result(value)

    def crash(self, name: str, flight: Flight, error: BaseException) -> None:
        """Followers get an ordinary exception as it is; what only concerns the leader tells them to try again."""
        self._end(name, flight)
        flight.set_exception(error if isinstance(error, Exception) else LeaderGone(name))

    def _end(self, name: str, flight: Flight) -> None:
        with self._changing:
            if self._under_way.get(name) is flight:
                del self._under_way[name]

    def outdate(self, names: Iterable[str]) -> None:
        """Whoever reads these from now on does not join a flight that began before."""
        with self._changing:
            for name in names:
                self._under_way.pop(name, None)

    def outdate_all(self) -> None:
        with self._changing:
            self._under_way.clear()

    def reset_after_fork(self) -> None:
        """The parent's readers do not exist here."""
        self._changing = threading.Lock()
        self._under_way.clear()
