"""The last step of a read: the loader, and what it brought into all tiers that may have it."""

import logging
import time
from collections.abc import Callable, Mapping
from random import uniform
from typing import Any

from resilience.cache import envelope
from resilience.cache.leases import Leases
from resilience.cache.memcached_tier import Found
from resilience.cache.stack import Stack
from resilience.clock import now_ms
from resilience.empty import nothing_for_nothing

#: Seconds that Redis keeps an entry that never goes stale: what is not read for so long is loaded again.
LONGEST_LIFE_SECONDS = 30 * 86_400

#: Gets keys, answers their values. A key that is absent from the answer, or None in it, has none.
LoadMany = Callable[[list[str]], Mapping[str, Any]]

logger = logging.getLogger(__name__)


class Loading:
    """`fresh_seconds` None: never stale; 0 or less: for those alone who wait for it, and not stored. After it an old
    value serves for `stale_seconds`, while somebody loads."""

    def __init__(self, stack: Stack, load_many: LoadMany, fresh_seconds: float | None, stale_seconds: float) -> None:
        self._stack = stack
        self._load_many = load_many
        self._fresh_seconds = fresh_seconds
        self.stale_seconds = stale_seconds

    @nothing_for_nothing(returns=dict)
    def load(
        self, names: list[str], leases: Leases, instead_of: Mapping[str, Found], *, rest_seconds: float = 0.0
    ) -> dict[str, Any]:
        """A value for each key, None for what has none, stored under the leases; `instead_of` is what memcached had.

        Raises what the loader raised, or TypeError for what JSON cannot hold. The leases are given back then, and
        nobody gets them for `rest_seconds`."""
        generation, started = self._stack.generation, time.monotonic()
        try:
            loaded = self._stack.load(lambda: self._load_many(names))
            cost_ms = int((time.monotonic() - started) * 1000)
            packed = {name: self._pack(loaded.get(name), cost_ms) for name in names}
            entries = _read_again(packed)
        except BaseException:
            self._stack.tallies.count("errors", names)
            leases.release(names, rest_seconds)
            raise
        self._stack.tallies.count("loads", names)
        self._stack.tallies.count("negative", [name for name in names if loaded.get(name) is None])
        if self._fresh_seconds is not None and self._fresh_seconds <= 0:
            leases.release(names)
        else:
            self._store(packed, entries, leases, instead_of, generation)
        return {name: entry.value for name, entry in entries.items()}

    def _store(
        self,
        packed: Mapping[str, bytes],
        entries: Mapping[str, envelope.Entry],
        leases: Leases,
        instead_of: Mapping[str, Found],
        generation: int,
    ) -> None:
        """In all tiers, what the leases allow: what was invalidated meanwhile is thrown away."""
        allowed = leases.fill(packed, {name: self._life_ms(entry) for name, entry in entries.items()})
        self._stack.store_in_memcached({name: packed[name] for name in allowed}, instead_of)
        leases.finish(allowed)
        self._stack.keep({name: entries[name] for name in allowed}, self.stale_seconds, generation)
        self._stack.tallies.count("fenced", set(packed) - allowed)

    def refresh(self, names: list[str], leases: Leases) -> None:
        """The same in the background. A failure goes to the log, and the old values serve for a while undisturbed."""
        self._stack.tallies.count("refreshes", names)
        rest_seconds = self._stack.times.rest_seconds
        try:
            self.load(names, leases, self._stack.in_memcached(names), rest_seconds=rest_seconds)
        except Exception as error:
            logger.warning("cache keys keep their old values: %s: %r", ", ".join(names[:3]), error)
            self._stack.memory.rest(names, rest_seconds)

    def _pack(self, value: Any, cost_ms: int) -> bytes:
        fresh = self._fresh_seconds
        if value is None:
            negative = self._stack.times.negative_seconds
            fresh = negative if fresh is None else min(fresh, negative)
        elif fresh is not None:
            spread = self._stack.times.jitter
            fresh *= uniform(1 - spread, 1 + spread)
        return envelope.pack(value, now_ms(), fresh, cost_ms)

    def _life_ms(self, entry: envelope.Entry) -> int:
        if entry.fresh_until_ms == envelope.NEVER_MS:
            return LONGEST_LIFE_SECONDS * 1000
        return max(1, entry.fresh_ms + (0 if entry.value is None else int(self.stale_seconds * 1000)))


def _read_again(packed: Mapping[str, bytes]) -> dict[str, envelope.Entry]:
    """As everybody else will see it, so that the first reader gets no other form. Raises TypeError for lists in lists
    in lists that could be written and cannot be read."""
    entries, unreadable = envelope.unpack_many(packed)
    for name, error in unreadable.items():
        raise TypeError(f"a cache holds what JSON can, not {name}: {error}")
    return entries
