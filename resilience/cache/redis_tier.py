"""The third tier: Redis by django-redis's client, the last one before the loader, and therefore the one with the
leases.

Each question is one round trip for any number of keys: a script, so that reading and leasing are one step.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from django_redis import get_redis_connection

from resilience.breaker import Breaker, BreakerOpen
from resilience.cache.away import TierAway

#: Keys that SCAN looks at before it lets others in.
SCAN_COUNT = 1_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What Redis has of a key, if anything, and whether the asker holds its lease now."""

    data: bytes | None
    leased: bool


class RedisTier:
    """`alias` is a django-redis cache of Django's settings: its address, timeouts and pool."""

    def __init__(self, alias: str, prefix: str) -> None:
        self._alias = alias
        self._prefix = prefix
        self.channel = f"{prefix}invalidated"
        self._breaker = Breaker(f"cache Redis ({alias})")

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """What is there of these keys. Raises TierAway, like all others."""
        names = list(names)
        if not names:
            return {}
        with self._asking():
            values = self._client.mget(self._entries(names))
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    def acquire(
        self, names: Iterable[str], token: str, lease_ms: int, now_ms: int, seen: Mapping[str, bytes]
    ) -> dict[str, Grant]:
        """Read, and lease what has to be loaded: what is missing, stale, or the very entry that was `seen`."""
        names = list(names)
        if not names:
            return {}
        headers = [seen.get(name, b"") for name in names]
        found = self._run(self._acquire, self._both(names), [token, lease_ms, now_ms, *headers])
        pairs = zip(found[::2], found[1::2], strict=True)
        return {name: Grant(data, bool(mine)) for name, (data, mine) in zip(names, pairs, strict=True)}

    def fill(self, token: str, entries: Mapping[str, bytes], life_ms: Mapping[str, int]) -> set[str]:
        """Store what was loaded; answers the keys whose lease still was the token's."""
        if not entries:
            return set()
        arguments = [value for name, data in entries.items() for value in (data, life_ms[name])]
        stored = self._run(self._fill, self._both(entries), [token, *arguments])
        return {name for name, done in zip(entries, stored, strict=True) if done}

    def release(self, token: str, names: Iterable[str], keep_ms: int) -> None:
        """Give leases back; for `keep_ms` nobody gets them."""
        if leases := self._leases(names):
            self._run(self._release, leases, [token, keep_ms])

    def invalidate(self, names: Iterable[str], message: str) -> int:
        """Forget entries and leases and publish the message; answers how many entries there were."""
        names = list(names)
        return int(self._run(self._invalidate, self._both(names), [self.channel, message])) if names else 0

    def replace(self, name: str, seen: bytes, data: bytes, life_ms: int | None, message: str) -> bool:
        """Write unless somebody else did since `seen`, an entry's header, was read; publish the message if so."""
        arguments = [seen, data, life_ms or 0, self.channel, message]
        return bool(self._run(self._replace, self._both([name]), arguments))

    def write(self, entries: Mapping[str, bytes], life_ms: int | None, message: str) -> None:
        """Write whatever is there, take leases back, and publish the message."""
        if not entries:
            return
        with self._asking():
            step = self._client.pipeline(transaction=True)
            for key, data in zip(self._entries(entries), entries.values(), strict=True):
                step.set(key, data, px=life_ms)
            step.delete(*self._leases(entries))
            step.publish(self.channel, message)
            step.execute()

    def clear(self, message: str) -> None:
        with self._asking():
            for key in self._client.scan_iter(match=f"{self._prefix}*", count=SCAN_COUNT):
                self._client.unlink(key)
            self._client.publish(self.channel, message)

    def _entries(self, names: Iterable[str]) -> list[str]:
        return [f"{self._prefix}entry:{name}" for name in names]

    def _leases(self, names: Iterable[str]) -> list[str]:
        return [f"{self._prefix}lease:{name}" for name in names]

    def _both(self, names: Iterable[str]) -> list[str]:
        return [*self._entries(names), *self._leases(names)]

    def _run(self, script: Any, keys: list[str], arguments: list[Any]) -> Any:
        with self._asking():
            return script(keys, arguments)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._breaker.watching():
                yield
        except (BreakerOpen, redis.RedisError, OSError) as error:
            raise TierAway(f"cache Redis: {error!r}") from error

    @cached_property
    def _client(self) -> Any:
        return get_redis_connection(self._alias)

    @cached_property
    def _acquire(self) -> Any:
        return self._script("acquire")

    @cached_property
    def _fill(self) -> Any:
        return self._script("fill")

    @cached_property
    def _release(self) -> Any:
        return self._script("release")

    @cached_property
    def _invalidate(self) -> Any:
        return self._script("invalidate")

    @cached_property
    def _replace(self) -> Any:
        return self._script("replace")

    def _script(self, name: str) -> Any:
        return self._client.register_script(Path(__file__).with_name(f"{name}.lua").read_text())

    def subscription(self) -> Any:
        """The channel of invalidated keys; a connection of its own. The caller closes it."""
        listening = self._client.pubsub()
        listening.subscribe(self.channel)
        return listening

    def reset_after_fork(self) -> None:
        """redis-py's pool makes itself anew in a child; only what failed in the parent is forgotten."""
        self._breaker = Breaker(f"cache Redis ({self._alias})")
