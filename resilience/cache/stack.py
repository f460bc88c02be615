"""The tiers of one cache in one process, and what they share. Django makes a cache object for each thread; this is what
those of one alias have in common."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import uniform
from typing import Any

from resilience import deadline
from resilience.cache.away import TierAway
from resilience.cache.envelope import Entry
from resilience.cache.invalidation import Bus
from resilience.cache.memcached_tier import Found, MemcachedTier
from resilience.cache.memory_tier import Kept, MemoryTier
from resilience.cache.redis_tier import RedisTier
from resilience.cache.single_flight import Flights
from resilience.cache.tallies import Tallies
from resilience.clock import now_ms
from resilience.deadline import DeadlinePassed

#: Threads of one process that refresh what is due. Each holds a database connection while it does.
REFRESHERS = 2
#: A batch of more leaves memcached out: pymemcache reads an entry in 5 us of Python, redis-py in a tenth of that.
MEMCACHED_KEYS_MAXIMUM = 1_000
#: Loads of one process at the same moment: when both shared tiers are away, the database must not get all readers.
LOADS_AT_ONCE = 4


@dataclass(frozen=True)
class Times:
    """Seconds. Each may be set in the cache's OPTIONS, in capitals: `{"SOFT_SECONDS": 0.5}`."""

    #: Process memory answers alone for so long: how old a value may be when the bus lost a message.
    soft_seconds: float = 1.0
    #: The same for a value that is stale already: how long after a refresh elsewhere the old one is served.
    soft_stale_seconds: float = 0.1
    #: An old value is better than none for so long after it went stale.
    stale_seconds: float = 600.0
    #: "There is no such thing" is believed for so long: things are made while people look.
    negative_seconds: float = 5.0
    #: A loader that takes longer counts as dead, and another one may load.
    lease_seconds: float = 3.0
    #: Nobody tries again for so long after a refresh failed: the old value serves.
    rest_seconds: float = 1.0
    #: Expiries are spread by so much to both sides, so that what was loaded together is not loaded together again.
    jitter: float = 0.1
    #: A value is refreshed by the first reader after this part of its fresh time, drawn anew by each process.
    due_from: float = 0.8
    due_to: float = 0.9

    @property
    def patience_seconds(self) -> float:
        """A reader waits as long as two loaders may take: one that died, and the one that took over."""
        return 2 * self.lease_seconds + 1


#: What other parts of a program hand in; see `install`.
@dataclass
class Callables:
    after_background_load: Callable[[], object] = lambda: None
    invalidate_later: Callable[[Sequence[str]], object] = lambda names: None


callables = Callables()


def install(
    *, after_background_load: Callable[[], object], invalidate_later: Callable[[Sequence[str]], object]
) -> None:
    """Hand in what this package does not know: how a thread gives back what a load took (database connections), and who
    tries an invalidation again that the tiers refused."""
    callables.after_background_load = after_background_load
    callables.invalidate_later = invalidate_later


class Stack:
    def __init__(
        self, *, prefix: str, redis_alias: str, memcached: MemcachedTier, entries_maximum: int, times: Times
    ) -> None:
        self.times = times
        self.tallies = Tallies()
        self.memory = MemoryTier(entries_maximum)
        self.flights = Flights()
        self.memcached = memcached
        self.redis = RedisTier(redis_alias, prefix)
        self.bus = Bus(self.redis, self.forget, self.forget_all)
        self._generation = 0
        self._make_workers()

    def _make_workers(self) -> None:
        self._refreshing: set[str] = set()
        self._changing = threading.Lock()
        self._refreshers = ThreadPoolExecutor(REFRESHERS, thread_name_prefix="cache-refresh")
        self._places = threading.BoundedSemaphore(LOADS_AT_ONCE)
        self._loading = threading.local()

    # --- memory

    @property
    def generation(self) -> int:
        """Changes whenever anything is invalidated. What was read before must not be kept after."""
        return self._generation

    def keep(self, entries: Mapping[str, Entry], stale_seconds: float, generation: int) -> list[str]:
        """Put entries into memory for as long as they have; not when something was invalidated since that generation.

        Answers those that are due to be refreshed.
        """
        kept = self._kept(entries, stale_seconds)
        if generation == self._generation:
            self.memory.put(kept)
            if generation != self._generation:  # in this very moment: whoever said so may have looked here before
                self.memory.drop(kept)
        now = time.monotonic()
        return [name for name, each in kept.items() if now >= each.due_at]

    def _kept(self, entries: Mapping[str, Entry], stale_seconds: float) -> dict[str, Kept]:
        """What is due is refreshed by somebody: memory answers alone for a moment only, so that what that brings is
        seen."""
        now, wall_ms, kept = time.monotonic(), now_ms(), {}
        part_left = 1 - uniform(self.times.due_from, self.times.due_to)
        for name, entry in entries.items():
            fresh_until = now + entry.left_ms(wall_ms) / 1000
            due_at = fresh_until - entry.fresh_ms / 1000 * part_left
            alone = min(self.times.soft_seconds, due_at - now) if now < due_at else self.times.soft_stale_seconds
            stale_until = fresh_until + stale_seconds if entry.value is not None else fresh_until
            kept[name] = Kept(
                entry.value,
                self.tallies.of(name),
                soft_until=min(now + alone, stale_until),
                due_at=due_at,
                fresh_until=fresh_until,
                stale_until=stale_until,
            )
        return kept

    def has_fresh(self, name: str) -> bool:
        """True when memory has a value that other tiers, if they were there, would not have had to load anew."""
        kept = self.memory.find(name)
        return kept is not None and time.monotonic() < kept.fresh_until

    def in_memcached(self, names: Collection[str]) -> dict[str, Found]:
        """What memcached has of these keys; nothing while it is away, or when they are too many."""
        if len(names) > MEMCACHED_KEYS_MAXIMUM:
            return {}
        try:
            return self.memcached.read(names)
        except TierAway:
            return {}

    def store_in_memcached(self, entries: Mapping[str, bytes], instead_of: Mapping[str, Found]) -> None:
        if len(entries) <= MEMCACHED_KEYS_MAXIMUM:
            with suppress(TierAway):
                self.memcached.store(entries, instead_of)

    def forget(self, names: Sequence[str]) -> None:
        """These are outdated, also those that are being loaded now."""
        self._generation += 1
        self.flights.outdate(names)
        self.memory.drop(names)

    def forget_all(self) -> None:
        self._generation += 1
        self.flights.outdate_all()
        self.memory.clear()

    # --- work

    def in_background(self, names: Iterable[str], refresh: Callable[[list[str]], object]) -> set[str]:
        """Call `refresh` with those of the names that nobody of this process refreshes now; answers the others."""
        with self._changing:
            free = [name for name in names if name not in self._refreshing]
            self._refreshing.update(free)
        if free:
            self._refreshers.submit(self._refresh, free, refresh)
        return set(names).difference(free)

    @property
    def is_refreshing(self) -> bool:
        return bool(self._refreshing)

    def _refresh(self, names: list[str], refresh: Callable[[list[str]], object]) -> None:
        try:
            refresh(names)
        finally:
            with self._changing:
                self._refreshing.difference_update(names)
            callables.after_background_load()

    def load(self, load: Callable[[], Any]) -> Any:
        """Call it, with at most LOADS_AT_ONCE others. One that reads another key inside needs no second place. Raises
        DeadlinePassed when there is none in time."""
        if getattr(self._loading, "now", False):
            return load()
        left = deadline.left_seconds()
        if not self._places.acquire(timeout=None if left == math.inf else left):
            raise DeadlinePassed(f"{LOADS_AT_ONCE} loads are under way")
        self._loading.now = True
        try:
            return load()
        finally:
            self._loading.now = False
            self._places.release()

    @contextmanager
    def place_lent(self) -> Iterator[None]:
        """While a load waits here for what others load, its place is theirs: all places could be taken by loads that
        wait for one which has none."""
        if not getattr(self._loading, "now", False):
            yield
            return
        self._places.release()
        try:
            yield
        finally:
            self._places.acquire()

    def reset_after_fork(self) -> None:
        """redis-py's pools and the guards make themselves anew in a child."""
        for part in (self.memory, self.flights, self.tallies, self.memcached, self.bus):
            part.reset_after_fork()
        self._make_workers()
