"""One reader of a key goes on its way, the others of this process wait for what it brings.

After groupcache's `singleflight`. Different here: a leader that was killed (a BaseException, such as a greenlet's end)
sends its followers on their own way instead of killing them, and a key that was invalidated gets a new flight at
once."""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any


class LeaderGone(Exception):
    """The reader that was followed was killed on its way: try again."""


class Flight:
    """The way of one reader with all its keys; each value can be taken as soon as it is there."""

    __slots__ = ("_changed", "_error", "_values", "ended")

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._values: Mapping[str, Any] = {}
        self._error: BaseException | None = None
        self.ended = False

    def brings(self, values: Mapping[str, Any]) -> None:
        """So much is there. The mapping may grow; say so again when it did."""
        with self._changed:
            self._values = values
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._error, self.ended = error, True
            self._changed.notify_all()

    def has(self, name: str) -> bool:
        return name in self._values

    def wait_for(self, name: str, give_up_at: float) -> Any:
        """The value. Raises the leader's exception, LeaderGone when it was killed, or TimeoutError."""
        with self._changed:
            while name not in self._values:
                if self.ended:
                    raise self._error if isinstance(self._error, Exception) else LeaderGone(name)
                left = give_up_at - time.monotonic()
                if left <= 0:
                    raise TimeoutError(name)
                self._changed.wait(left)
            return self._values[name]


class Flights:
    def __init__(self) -> None:
        self._make_anew()

    def _make_anew(self) -> None:
        self._under_way: dict[str, Flight] = {}
        self._changing = threading.Lock()
        self._changed = threading.Condition()

    def claim(self, names: Iterable[str]) -> tuple[Flight, list[str], dict[str, Flight]]:
        """A flight, the keys that it leads from now on, and the flights of others that lead the rest. The caller must
        end its own before it waits for any other: then no two callers can wait for each other."""
        flight, own, others = Flight(self._changed), [], {}
        with self._changing:
            for name in names:
                led_by = self._under_way.setdefault(name, flight)
                if led_by is flight:
                    own.append(name)
                else:
                    others[name] = led_by
        return flight, own, others

    def end(self, flight: Flight, names: Iterable[str], error: BaseException | None) -> None:
        """Whoever follows gets what the flight brought. Without it: an ordinary exception as it is; anything else only
        concerns the leader, and tells the followers to try again."""
        with self._changing:
            for name in names:
                if self._under_way.get(name) is flight:
                    del self._under_way[name]
        flight.end(error)

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
        self._make_anew()
