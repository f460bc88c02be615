"""A read's way: memory, memcached, Redis, the loader. Of all readers, at most one takes the last step for a key.

    memory      fresh: answered. Otherwise the first reader of this process goes on, and those who come meanwhile get
                the old value at once when there is one, else what the first one brings.
    memcached   fresh: kept in memory.
    Redis       fresh: kept in both. Otherwise its lease says who loads; who does not get it serves the old value, or
                waits and asks again.
    loader      with the lease: loaded, stored under it, kept in all three; in the background when there is an old
                value to serve.

A tier that is away is left out. Without Redis, memcached keeps the leases; without both, each process loads for itself.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from random import uniform
from typing import Any

from resilience.cache import envelope
from resilience.cache.envelope import Entry, Unreadable
from resilience.cache.leases import Leases
from resilience.cache.loading import Loading, LoadMany
from resilience.cache.memcached_tier import TOMBSTONE, Found
from resilience.cache.redis_tier import Grant
from resilience.cache.single_flight import Flight, LeaderGone
from resilience.cache.stack import Stack
from resilience.clock import now_ms

#: Seconds between two looks at a key that another process loads: doubled up to the most, each drawn from 50 to 150 %.
FIRST_LOOK_SECONDS = 0.004
LAST_LOOK_SECONDS = 0.05

logger = logging.getLogger(__name__)


class NobodyLoaded(Exception):
    """Others were loading the key, and nothing came of it for as long as a reader waits."""


class Reading:
    """One call for any number of keys: `Reading(stack, load_many, fresh_seconds).of(names)`."""

    def __init__(
        self, stack: Stack, load_many: LoadMany, fresh_seconds: float | None, stale_seconds: float | None = None
    ) -> None:
        stale_seconds = stack.times.stale_seconds if stale_seconds is None else stale_seconds
        self._stack = stack
        self._loading = Loading(stack, load_many, fresh_seconds, stale_seconds)
        self._leases = Leases(stack)
        self._generation = stack.generation
        self._found: dict[str, Any] = {}
        self._in_memcached: dict[str, Found] = {}

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """A value for each key, None for what has none.

        Raises what the loader raised, TypeError for a value that JSON cannot hold, and NobodyLoaded.
        """
        self._stack.bus.listen()
        give_up_at = time.monotonic() + self._stack.times.patience_seconds
        missing = self._not_in_memory(dict.fromkeys(names))
        while missing:
            own, others = self._stack.flights.claim(missing)
            self._lead(own)
            missing = self._follow(others, give_up_at)
        return self._found

    # --- this process

    def _not_in_memory(self, names: Iterable[str]) -> list[str]:
        now, find, missing = time.monotonic(), self._stack.memory.find, []
        for name in names:
            kept = find(name)
            if kept is not None and now < kept.soft_until:
                kept.used = True
                kept.tally.hits += 1
                self._found[name] = kept.value
            else:
                missing.append(name)
        return missing

    def _lead(self, own: dict[str, Flight]) -> None:
        """Bring a value for each key; whatever happens, nobody who follows is left waiting."""
        error: BaseException = LeaderGone()
        try:
            missing = self._not_in_memory(own)  # somebody may have landed between the look and the claim
            missing = self._not_in_memcached(missing)
            self._through_redis(missing)
        except BaseException as broken:
            error = broken
            raise
        finally:
            for name, flight in own.items():
                if name in self._found:
                    self._stack.flights.land(name, flight, self._found[name])
                else:
                    self._stack.flights.crash(name, flight, error)

    def _follow(self, others: dict[str, Flight], give_up_at: float) -> list[str]:
        """Take what other readers of this process bring, or the old value at once; answers the keys whose leaders were
        killed."""
        again = []
        for name, flight in others.items():
            if not flight.done() and self._serve_from_memory(name):
                continue
            try:
                self._found[name] = flight.result(max(0.0, give_up_at - time.monotonic()))
                self._stack.tallies.count("joined", name)
            except LeaderGone:
                again.append(name)
            except TimeoutError as late:
                if flight.done():
                    raise  # the loader's own
                raise NobodyLoaded(name) from late
        return again

    # --- the shared tiers

    def _not_in_memcached(self, names: list[str]) -> list[str]:
        self._in_memcached = self._stack.in_memcached(names)
        missing, due = [], {}
        for name in names:
            found = self._in_memcached.get(name)
            entry = None if found is None or found.data == TOMBSTONE else self._readable(name, found.data)
            if entry is None or entry.left_ms(now_ms()) <= 0:
                missing.append(name)
            elif self._serve(name, entry, "memcached"):
                due[name] = entry.header
        if due:
            self._stack.in_background(due, lambda names: self._refresh(names, due))
        return missing

    def _through_redis(self, names: list[str]) -> None:
        """Until each key has a value: serve what is there, load what is leased to us, wait for what others load."""
        give_up_at = time.monotonic() + self._stack.times.patience_seconds
        pause = FIRST_LOOK_SECONDS
        while names:
            to_load, names = self._sort(self._leases.acquire(names))
            if to_load:
                self._found |= self._loading.load(to_load, self._leases, self._in_memcached)
            if names:
                self._count_waited(names)
                if time.monotonic() > give_up_at:
                    raise NobodyLoaded(", ".join(names[:3]))
                time.sleep(pause * uniform(0.5, 1.5))
                pause = min(2 * pause, LAST_LOOK_SECONDS)

    def _sort(self, grants: Mapping[str, Grant]) -> tuple[list[str], list[str]]:
        """Serve what there is; answers the keys to load now, and those to wait for."""
        to_load: list[str] = []
        to_wait: list[str] = []
        to_refresh, due, for_memcached = [], {}, {}
        for name, grant in grants.items():
            entry = self._readable(name, grant.data)
            if entry is not None and grant.data is not None and entry.left_ms(now_ms()) > 0:
                for_memcached[name] = grant.data
                if self._serve(name, entry, "redis"):
                    due[name] = entry.header
            elif self._serve_old(name, entry):
                if grant.leased:
                    to_refresh.append(name)
            else:
                (to_load if grant.leased else to_wait).append(name)
        self._stack.store_in_memcached(for_memcached, self._in_memcached)
        if to_refresh:
            self._stack.in_background(to_refresh, lambda names: self._loading.refresh(names, self._leases))
        if due:
            self._stack.in_background(due, lambda names: self._refresh(names, due))
        return to_load, to_wait

    def _refresh(self, names: list[str], seen: Mapping[str, bytes]) -> None:
        """Load what is due but fresh, if nobody else does."""
        leases = Leases(self._stack)
        leased = [name for name, grant in leases.acquire(names, seen).items() if grant.leased]
        if leased:
            self._loading.refresh(leased, leases)

    # --- answers

    def _serve(self, name: str, entry: Entry, tier: str) -> bool:
        """With a fresh entry, kept in memory from now on; True when it is due to be refreshed."""
        self._found[name] = entry.value
        self._stack.tallies.count(tier, name)
        kept = self._stack.keep(name, entry, self._loading.stale_seconds, self._generation)
        return time.monotonic() >= kept.due_at

    def _serve_old(self, name: str, entry: Entry | None) -> bool:
        """With an entry that is stale, or with what memory still has; False when there is neither."""
        if entry is None or entry.value is None:
            return self._serve_from_memory(name)
        self._found[name] = entry.value
        self._stack.tallies.count("stale", name)
        self._stack.keep(name, entry, self._loading.stale_seconds, self._generation)
        return True

    def _serve_from_memory(self, name: str) -> bool:
        kept = self._stack.memory.find(name)
        if kept is None or time.monotonic() >= kept.stale_until:
            return False
        self._found[name] = kept.value
        self._stack.tallies.count("stale", name)
        self._stack.memory.rest([name], self._stack.times.soft_stale_seconds)
        return True

    def _readable(self, name: str, data: bytes | None) -> Entry | None:
        if data is None:
            return None
        try:
            return envelope.unpack(data)
        except Unreadable as error:
            self._stack.tallies.count("unreadable", name)
            logger.warning("cache key %s: %s", name, error)
            return None

    def _count_waited(self, names: Iterable[str]) -> None:
        for name in names:
            self._stack.tallies.count("waited", name)
