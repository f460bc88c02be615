"""Who loads a key: the one holder of its lease, among all readers of all processes.

Redis keeps the leases, because every way to the loader passes it last. While it is away memcached does, as well as it
can; without both, everybody may load, and only the readers of one process wait for each other.
"""

import math
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress

from resilience.cache.away import TierAway
from resilience.cache.envelope import Unreadable, unpack
from resilience.cache.memcached_tier import TOMBSTONE
from resilience.cache.redis_tier import Grant
from resilience.cache.stack import Stack
from resilience.clock import now_ms


class Leases:
    """Those of one reader. Its token is on all of them; what it stores under a lease that is no longer its own is
    refused."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._token = secrets.token_hex(8)
        self._in_redis: set[str] = set()
        self._in_memcached: set[str] = set()

    def acquire(self, names: Iterable[str], seen: Mapping[str, bytes] | None = None) -> dict[str, Grant]:
        """What there is of each key, and whether the caller shall load it. `seen`: headers of fresh entries that it
        wants to load all the same."""
        names, seen = list(names), seen or {}
        try:
            grants = self._ask_redis(names, seen)
            self._in_redis.update(name for name in names if grants[name].leased)
        except TierAway:
            try:
                grants = self._ask_memcached(names, seen)
                self._in_memcached.update(name for name in names if grants[name].leased)
            except TierAway:
                grants = {name: Grant(None, not self._stack.has_fresh(name)) for name in names}
        return grants

    def _ask_redis(self, names: list[str], seen: Mapping[str, bytes]) -> dict[str, Grant]:
        lease_ms = int(self._stack.times.lease_seconds * 1000)
        return self._stack.redis.acquire(names, self._token, lease_ms, now_ms(), seen)

    def _ask_memcached(self, names: list[str], seen: Mapping[str, bytes]) -> dict[str, Grant]:
        """First the lease, then the look: whoever gave it back just now has stored something before."""
        if not self._stack.memcached:
            raise TierAway("there is no memcached")
        leased = self._stack.memcached.lease(names, self._token, math.ceil(self._stack.times.lease_seconds))
        found = self._stack.memcached.read(names)
        data = {name: entry.data for name, entry in found.items() if entry.data != TOMBSTONE}
        needless = {name for name in leased if _is_fresh(data.get(name), seen.get(name))}
        self._stack.memcached.end_leases(needless)
        return {name: Grant(data.get(name), name in leased - needless) for name in names}

    def fill(self, entries: Mapping[str, bytes], life_ms: Mapping[str, int]) -> set[str]:
        """Store what was loaded where the leases are; answers the keys that may be kept: not those whose lease is gone.

        What is away refuses nothing.
        """
        allowed = set(entries)
        in_redis, in_memcached = self._in_redis & allowed, self._in_memcached & allowed
        with suppress(TierAway):
            stored = self._stack.redis.fill(self._token, {name: entries[name] for name in in_redis}, life_ms)
            allowed -= in_redis - stored
        with suppress(TierAway):
            allowed -= in_memcached - self._stack.memcached.leased(in_memcached, self._token)
        return allowed

    def finish(self, names: Iterable[str]) -> None:
        """What memcached has of these leases ends, now that it has the values too; in Redis that was one step. Others
        who find no value, because a tombstone refused it, would wait for nothing."""
        with suppress(TierAway):
            self._stack.memcached.end_leases(self._in_memcached.intersection(names))

    def release(self, names: Iterable[str], keep_seconds: float = 0.0) -> None:
        """Give leases back; for `keep_seconds` nobody gets those in Redis."""
        names = set(names)
        with suppress(TierAway):  # they end by themselves
            self._stack.redis.release(self._token, self._in_redis & names, int(keep_seconds * 1000))
        self.finish(names)


def _is_fresh(data: bytes | None, seen: bytes | None) -> bool:
    if data is None:
        return False
    try:
        entry = unpack(data)
    except Unreadable:
        return False
    return entry.left_ms(now_ms()) > 0 and entry.header != seen
