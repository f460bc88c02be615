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

import gc
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import uniform
from typing import Any

from resilience import deadline
from resilience.cache import envelope
from resilience.cache.away import TierAway
from resilience.cache.envelope import Entry, Unreadable
from resilience.cache.leases import Leases
from resilience.cache.loading import Loading, LoadMany
from resilience.cache.memcached_tier import TOMBSTONE, Found
from resilience.cache.redis_tier import PORTION_KEYS, Grant
from resilience.cache.single_flight import Flight, LeaderGone
from resilience.cache.stack import Stack
from resilience.clock import now_ms

#: Seconds between two looks at a key that another process loads: doubled up to the most, each drawn from 50 to 150 %.
FIRST_LOOK_SECONDS = 0.004
LAST_LOOK_SECONDS = 0.05

logger = logging.getLogger(__name__)


class NobodyLoaded(Exception):
    """Others were loading the key, and nothing came of it for as long as a reader waits, or by its deadline."""


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
        self._damaged: dict[str, Unreadable] = {}

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """A value for each key, None for what has none.

        Raises what the loader raised, TypeError for a value that JSON cannot hold, and NobodyLoaded.
        """
        self._stack.bus.listen()
        missing = self._not_in_memory(dict.fromkeys(names))
        while missing:
            flight, own, others = self._stack.flights.claim(missing)
            self._lead(flight, own)
            missing = self._follow(others)
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

    def _lead(self, flight: Flight, own: list[str]) -> None:
        """Bring a value for each key; whatever happens, nobody who follows is left waiting. What a reader hears whose
        time is over concerns itself alone: those who follow may have more."""
        error: BaseException | None = None
        try:
            missing = self._not_in_memory(own)  # somebody may have landed between the look and the claim
            missing = self._not_in_memcached(missing)
            missing = self._not_in_redis(missing)
            flight.brings(self._found)
            self._by_lease(missing, flight)
        except BaseException as broken:
            error = broken if deadline.left_seconds() else None
            raise
        finally:
            flight.brings(self._found)
            self._stack.flights.end(flight, own, error)

    def _follow(self, others: Mapping[str, Flight]) -> list[str]:
        """Take the old value at once, or what other readers of this process bring; answers the keys whose leaders were
        killed."""
        joined, again = [], []
        give_up_at = self._give_up_at()
        for name, flight in others.items():
            if not flight.has(name) and self._serve_from_memory(name):
                continue
            try:
                with self._stack.place_lent():
                    self._found[name] = flight.wait_for(name, give_up_at)
                joined.append(name)
            except LeaderGone:
                again.append(name)
            except TimeoutError as late:
                if flight.ended:
                    raise  # the loader's own
                raise NobodyLoaded(name) from late
        self._stack.tallies.count("joined", joined)
        return again

    def _give_up_at(self) -> float:
        """When nobody waits for others any more: soon enough that the tiers are not taken for away, which by then
        nobody asks, and everything is loaded once more."""
        left = deadline.left_seconds() - deadline.LEAST_SECONDS
        return time.monotonic() + min(self._stack.times.patience_seconds, left)

    # --- the shared tiers

    def _not_in_memcached(self, names: list[str]) -> list[str]:
        self._in_memcached = self._stack.in_memcached(names)
        data = {name: found.data for name, found in self._in_memcached.items() if found.data != TOMBSTONE}
        return self._serve(self._readable(data), "memcached", names)

    def _not_in_redis(self, names: list[str]) -> list[str]:
        """For many keys, most of which are there: a plain read costs half of one that asks for leases too."""
        if len(names) <= PORTION_KEYS:
            return names
        try:
            with _garbage_left_alone():
                return self._serve(self._readable(self._stack.redis.read(names)), "redis", names)
        except TierAway:
            return names

    def _by_lease(self, names: list[str], flight: Flight) -> None:
        """Until each key has a value: serve what is there, load what is leased to us, wait for what others load."""
        give_up_at = self._give_up_at()
        pause = FIRST_LOOK_SECONDS
        while names:
            to_load, names = self._sort(*self._ask_redis(names))
            if to_load:
                self._found |= self._loading.load(to_load, self._leases, self._in_memcached)
            flight.brings(self._found)
            if names:
                self._stack.tallies.count("waited", names)
                with self._stack.place_lent():
                    time.sleep(max(0.0, min(pause * uniform(0.5, 1.5), give_up_at - time.monotonic())))
                if time.monotonic() >= give_up_at:
                    raise NobodyLoaded(", ".join(names[:3]))
                pause = min(2 * pause, LAST_LOOK_SECONDS)
                names = self._not_in_memcached(names)  # whoever loads may have lost Redis since

    def _ask_redis(self, names: list[str]) -> tuple[dict[str, Grant], dict[str, Entry]]:
        """What there is, and which keys are leased to us. Damaged entries that look fresh, which are leased to nobody,
        are asked for once more as seen."""
        grants = self._leases.acquire(names)
        data = {name: grant.data for name, grant in grants.items() if grant.data is not None}
        entries = self._readable(data)
        damaged = {name: data[name][: envelope.HEADER_BYTES] for name in data.keys() - entries.keys()}
        return grants | (self._leases.acquire(damaged, damaged) if damaged else {}), entries

    def _sort(self, grants: Mapping[str, Grant], entries: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
        """Serve what there is; answers the keys to load now, and those to wait for."""
        missing = self._serve(entries, "redis", list(grants))
        found_fresh = {name: grants[name].data or b"" for name in entries.keys() - set(missing)}
        self._stack.store_in_memcached(found_fresh, self._in_memcached)

        without = [name for name in missing if not self._serve_old(name, entries.get(name))]
        old = set(missing) - set(without)
        self._refresh_leased([name for name in old if grants[name].leased])
        to_load = [name for name in without if grants[name].leased]
        return to_load, [name for name in without if not grants[name].leased]

    def _refresh_leased(self, names: list[str]) -> None:
        """In the background. Leases of keys that are being refreshed already go back: whoever does that may wait for a
        tier that hangs, and will want a lease of its own."""
        needless = self._stack.in_background(names, lambda names: self._loading.refresh(names, self._leases))
        if needless:
            self._leases.release(needless)

    def _refresh(self, names: list[str], seen: Mapping[str, bytes]) -> None:
        """Load what is due but fresh, if nobody else does."""
        leases = Leases(self._stack)
        leased = [name for name, grant in leases.acquire(names, seen).items() if grant.leased]
        if leased:
            self._loading.refresh(leased, leases)

    # --- answers

    def _serve(self, entries: Mapping[str, Entry], tier: str, names: list[str]) -> list[str]:
        """Answer with what is fresh of the entries, kept in memory from now on, and have it refreshed in time; answers
        the names that are left."""
        wall_ms = now_ms()
        fresh = {name: entry for name, entry in entries.items() if entry.left_ms(wall_ms) > 0}
        if not fresh:
            return names
        self._found.update((name, entry.value) for name, entry in fresh.items())
        self._stack.tallies.count(tier, fresh)
        due = self._stack.keep(fresh, self._loading.stale_seconds, self._generation)
        if due:
            seen = {name: fresh[name].header for name in due}
            self._stack.in_background(due, lambda names: self._refresh(names, seen))
        return [name for name in names if name not in fresh]

    def _serve_old(self, name: str, entry: Entry | None) -> bool:
        """With an entry that is stale, or with what memory still has; False when there is neither."""
        if entry is None or entry.value is None:
            return self._serve_from_memory(name)
        self._found[name] = entry.value
        self._stack.tallies.count("stale", [name])
        self._stack.keep({name: entry}, self._loading.stale_seconds, self._generation)
        return True

    def _serve_from_memory(self, name: str) -> bool:
        kept = self._stack.memory.find(name)
        if kept is None or time.monotonic() >= kept.stale_until:
            return False
        self._found[name] = kept.value
        self._stack.tallies.count("stale", [name])
        self._stack.memory.rest([name], self._stack.times.soft_stale_seconds)
        return True

    def _readable(self, data: Mapping[str, bytes]) -> dict[str, Entry]:
        entries, damaged = envelope.unpack_many(data)
        for name in damaged.keys() - self._damaged.keys():
            self._stack.tallies.count("unreadable", [name])
            logger.warning("cache key %s: %s", name, damaged[name])
        self._damaged |= damaged
        return entries


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """A long list makes hundreds of thousands of objects, and all stay. Python would look for garbage among them again
    and again, for as long as the rest of the read takes."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:  # of several lists at the same moment, the first one to begin
            gc.enable()
