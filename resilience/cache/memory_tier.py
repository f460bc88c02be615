"""The first tier: a bounded dictionary of this process, read without a lock.

Eviction gives a second chance (the clock algorithm, Corbato 1968): an entry that was read since the hand passed it last
stays for another round. Its hit ratio is LRU's, and a read moves nothing: it sets one flag.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from resilience.cache.tallies import Tally


class Kept:
    """What is known of a key here, in seconds of this process's monotonic clock."""

    __slots__ = ("due_at", "fresh_until", "soft_until", "stale_until", "tally", "used", "value")

    def __init__(
        self,
        value: Any,
        tally: Tally,
        *,
        soft_until: float,
        due_at: float,
        fresh_until: float,
        stale_until: float,
    ) -> None:
        self.value = value
        self.tally = tally
        self.soft_until = soft_until  #: answered without a look at the other tiers
        self.due_at = due_at  #: refreshed in the background by whoever reads it next
        self.fresh_until = fresh_until
        self.stale_until = stale_until  #: better than nothing
        self.used = False


class MemoryTier:
    """`find(name)` is the dictionary's own `get`: 30 ns. Values are shared by all readers: never change one."""

    def __init__(self, entries_maximum: int) -> None:
        self._maximum = entries_maximum
        self._entries: dict[str, Kept] = {}
        self._round: deque[str] = deque()  # in the order of the clock's hand; may hold names that are gone
        self._changing = threading.Lock()
        self.find: Callable[[str], Kept | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, kept: Mapping[str, Kept]) -> None:
        with self._changing:
            for name, each in kept.items():
                if name not in self._entries:
                    if len(self._entries) >= self._maximum:
                        self._evict_one()
                    self._round.append(name)
                self._entries[name] = each
            self._sweep_round()

    def rest(self, names: Iterable[str], seconds: float) -> None:
        """Let what is there answer alone for so long, as long as it may serve at all."""
        for name in names:
            if kept := self._entries.get(name):
                kept.soft_until = min(time.monotonic() + seconds, kept.stale_until)

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._entries.pop(name, None)

    def clear(self) -> None:
        with self._changing:
            self._entries.clear()
            self._round.clear()

    def _evict_one(self) -> None:
        while self._round:
            name = self._round.popleft()
            kept = self._entries.get(name)
            if kept is None:
                continue  # it was dropped, which has made no room for this one
            if not kept.used:
                self._entries.pop(name, None)
                return
            kept.used = False
            self._round.append(name)

    def _sweep_round(self) -> None:
        """Forget the names of entries that were dropped, before they are more than the entries."""
        if len(self._round) > 2 * self._maximum:
            self._round = deque(dict.fromkeys(name for name in self._round if name in self._entries))

    def reset_after_fork(self) -> None:
        """The child's own lock: the parent's may have been held by a thread that does not exist here."""
        self._changing = threading.Lock()
        self.clear()
