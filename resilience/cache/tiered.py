"""Django's cache over process memory, memcached and Redis, which no stampede gets through.

    caches["default"].get_or_set("sale:summer", load_sale, 30)
    caches["default"].get_many_or_set(["offer:1", "offer:2"], load_offers, 30)

For any number of readers in any number of processes a key is loaded once; how is told in `reading.py`. Values are what
JSON holds, and shared by all readers of a process: do not change them."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from resilience.cache import writing
from resilience.cache.away import TierAway
from resilience.cache.envelope import NEVER_MS, Entry
from resilience.cache.loading import LoadMany
from resilience.cache.looking import look
from resilience.cache.memcached_tier import TIMEOUT_SECONDS, MemcachedTier
from resilience.cache.reading import Reading
from resilience.cache.stack import Stack, Times
from resilience.clock import now_ms

#: Entries of process memory, unless OPTIONS say MEMORY_ENTRIES: at a kilobyte each, 20 MB.
MEMORY_ENTRIES = 20_000
#: Of keys and of caches, unless told otherwise: Django's.
FIRST_VERSION = 1


class TieredCache(BaseCache):
    """`LOCATION` names the cache in this process. OPTIONS:

    - `REDIS`: the alias of the django-redis cache whose Redis is the third tier
    - `MEMCACHED`: addresses of memcached nodes; none leaves that tier out
    - `MEMCACHED_TIMEOUT_SECONDS` for a connection or an answer; Redis has its own in its alias
    - `MEMORY_ENTRIES`, and the times of `stack.Times` in capitals
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.stack = _stack(location, self.key_prefix, params.get("OPTIONS", {}))
        self._find = self.stack.memory.find
        self._is_first_version = self.version == FIRST_VERSION

    # --- with a loader

    def get_or_set(
        self,
        key: str,
        default: Callable[[], Any] | Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        stale_seconds: float | None = None,
    ) -> Any:
        """The cached value, or what `default` returns, which is called once for all who ask. A loader that returns None
        says that there is nothing: that is remembered for seconds only.

        `timeout`: seconds the value is fresh. For `stale_seconds` more (ten minutes) it serves while somebody loads, in
        the background: a loader must not depend on the thread that handed it in.
        Raises what `default` raises, and NobodyLoaded.
        """
        if version is None and self._is_first_version:
            kept = self._find(key)
            if kept is not None and time.monotonic() < kept.soft_until:
                kept.used = True
                kept.tally.hits += 1  # no call between its read and its write: CPython changes threads only at calls
                return kept.value
        return self._read(self._name(key, version), default, timeout, stale_seconds)

    def _read(self, name: str, default: Any, timeout: float | None, stale_seconds: float | None) -> Any:
        """Apart, because a function makes the cells of its closures at each call: they were a fifth of a hit."""
        load = default if callable(default) else lambda: default
        reading = Reading(self.stack, lambda _: {name: load()}, self._seconds(timeout), stale_seconds)
        return reading.of([name])[name]

    def get_many_or_set(
        self,
        keys: Iterable[str],
        load_many: LoadMany,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        stale_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The same for many keys: at most one trip to each tier, and one call of `load_many` with what no tier has.
        Answers the keys that have a value; no keys make no trip."""
        names = {self._name(key, version): key for key in keys}
        if not names:
            return {}
        found = self._all_in_memory(names)
        return self._read_many(names, load_many, timeout, stale_seconds) if found is None else found

    def _all_in_memory(self, names: Mapping[str, str]) -> dict[str, Any] | None:
        """The values by key, as a rule: then nobody else need be asked. None when one is missing."""
        now, found = time.monotonic(), {}
        for name, key in names.items():
            kept = self._find(name)
            if kept is None or now >= kept.soft_until:
                return None
            kept.used = True
            if kept.value is not None:
                found[key] = kept.value
        for name in names:
            if kept := self._find(name):
                kept.tally.hits += 1
        return found

    def _read_many(
        self, names: Mapping[str, str], load_many: LoadMany, timeout: float | None, stale_seconds: float | None
    ) -> dict[str, Any]:
        def load(missing: list[str]) -> dict[str, Any]:
            loaded = load_many([names[name] for name in missing])
            return {name: loaded.get(names[name]) for name in missing}

        found = Reading(self.stack, load, self._seconds(timeout), stale_seconds).of(names)
        return {key: found[name] for name, key in names.items() if found[name] is not None}

    # --- without

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self.get_many([key], version).get(key, default)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        names = {self._name(key, version): key for key in keys}
        now, found, missing = time.monotonic(), {}, []
        for name, key in names.items():
            kept = self._find(name)
            if kept is not None and now < min(kept.soft_until, kept.fresh_until):
                kept.used = True
                kept.tally.hits += 1
                found[key] = kept.value
            else:
                missing.append(name)
        if missing:
            self.stack.bus.listen()
            generation = self.stack.generation
            entries = look(self.stack, missing)
            self.stack.keep(entries, 0.0, generation)
            found |= {names[name]: entry.value for name, entry in entries.items()}
        return found

    def set(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self.set_many({key: value}, timeout, version)

    def set_many(
        self, data: Mapping[str, Any], timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        values = {self._name(key, version): value for key, value in data.items()}
        seconds = self._seconds(timeout)
        if seconds is not None and seconds <= 0:
            writing.invalidate(self.stack, list(values))
        else:
            writing.write(self.stack, values, seconds)
        return []

    def add(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store it unless there is a value; of several who do so at once, one does. True for the one who did."""
        seconds = self._seconds(timeout)
        return self._change(key, version, lambda entry: None if entry else (value, seconds))

    def touch(self, key: str, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        seconds = self._seconds(timeout)
        return self._change(key, version, lambda entry: (entry.value, seconds) if entry else None)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add to a number, as one step; its time to live stays. Raises ValueError when there is none."""
        result = 0

        def add(entry: Entry | None) -> tuple[Any, float | None] | None:
            nonlocal result
            if entry is None:
                return None
            result = entry.value + delta
            return result, _seconds_left(entry)

        if not self._change(key, version, add):
            raise ValueError(f"Key {key!r} not found")
        return result

    def delete(self, key: str, version: int | None = None) -> bool:
        return writing.invalidate(self.stack, [self._name(key, version)])

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        writing.invalidate(self.stack, [self._name(key, version) for key in keys])

    def forget_everywhere(self, names: Sequence[str]) -> None:
        """Like `delete_many` for names that `stack.install` was handed. Raises TierAway when a tier is still away."""
        writing.invalidate_again(self.stack, names)

    def clear(self) -> None:
        writing.clear(self.stack)

    def ask_redis(self) -> None:
        """Raises TierAway while the third tier is away."""
        self.stack.redis.read(["is anybody there?"])

    def ask_memcached(self) -> None:
        """Raises TierAway while the second tier is away."""
        self.stack.memcached.read(["is anybody there?"])

    def tally(self, group: str | None = None) -> dict[str, int]:
        """What happened in this process to reads of `group` (`sale:summer`), or to all; see `tallies.EVENTS`."""
        return self.stack.tallies.total(group)

    # --- names

    def _name(self, key: str, version: int | None) -> str:
        """The key as the tiers have it: of the first version, which nearly all are, without its number."""
        version = self.version if version is None else version
        return str(key) if version == FIRST_VERSION else f"{key}@{version}"

    def _seconds(self, timeout: Any) -> float | None:
        seconds: float | None = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return seconds

    def _change(self, key: str, version: int | None, new: writing.Change) -> bool:
        name = self._name(key, version)
        try:
            return writing.change(self.stack, name, new)
        except TierAway:  # nobody else hears of it either
            wanted = new(look(self.stack, [name]).get(name))
            if wanted is not None:
                writing.write(self.stack, {name: wanted[0]}, wanted[1])
            return wanted is not None


def _seconds_left(entry: Entry) -> float | None:
    return None if entry.fresh_until_ms == NEVER_MS else (entry.fresh_until_ms - now_ms()) / 1000


#: Those of this process. Django makes a cache object for each thread; they share what is in here.
_stacks: dict[str, Stack] = {}


def _stack(location: str, prefix: str, options: dict[str, Any]) -> Stack:
    named = repr((location, prefix, sorted(options.items())))
    if named not in _stacks:
        times = {field.name: options[field.name.upper()] for field in fields(Times) if field.name.upper() in options}
        prefix = f"{prefix}{location}:"
        timeout_seconds = options.get("MEMCACHED_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
        made = Stack(
            prefix=prefix,
            redis_alias=options["REDIS"],
            memcached=MemcachedTier(options.get("MEMCACHED", []), prefix, timeout_seconds),
            entries_maximum=options.get("MEMORY_ENTRIES", MEMORY_ENTRIES),
            times=Times(**times),
        )
        return _stacks.setdefault(named, made)
    return _stacks[named]


def _reset_all_after_fork() -> None:
    for stack in list(_stacks.values()):
        stack.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all_after_fork)
