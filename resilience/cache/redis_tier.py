"""The third tier: Redis by django-redis's client, the last one before the loader, and therefore the one with the
leases.

Each question is one round trip for any number of keys: a script, so that reading and leasing are one step.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import redis
from django_redis import get_redis_connection

from resilience.cache.away import TierAway
from resilience.cache_redis import guard_of
from resilience.empty import nothing_for_nothing
from resilience.refused import Refused

#: Keys that SCAN looks at before it lets others in.
SCAN_COUNT = 1_000
#: Keys of one script: 1 000 keep Redis from others for a millisecond. More go as several scripts in the same trip.
PORTION_KEYS = 1_000
#: Milliseconds of a lease that was asked for longer ago than its asker listens: less than most old values serve, and
#: more than most loads take.
ORPHAN_MS = 500
#: A key may come from an address that somebody typed: half a surrogate in it must not look like a Redis that fails.
ODD_NAMES = "surrogatepass"


class Grant(NamedTuple):
    """What Redis has of a key, if anything, and whether the asker holds its lease now."""

    data: bytes | None
    leased: bool


class RedisTier:
    """`alias` is a django-redis cache of Django's settings: its address, timeouts and pool."""

    def __init__(self, alias: str, prefix: str) -> None:
        self._alias = alias
        self._prefix = prefix
        self.channel = f"{prefix}invalidated"
        self.guard = guard_of(alias)

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """What is there of these keys. Raises TierAway, like all others."""
        names = list(names)
        portions = self._portions(names)
        if not portions:
            return {}
        with self._asking():
            step = self._client.pipeline(transaction=False)
            for portion in portions:
                step.mget(self._entries(portion))
            values = [value for answer in step.execute() for value in answer]
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    def acquire(
        self, names: Iterable[str], token: str, lease_ms: int, now_ms: int, seen: Mapping[str, bytes]
    ) -> dict[str, Grant]:
        """Read, and lease what has to be loaded: what is missing, stale, or the very entry that was `seen`."""
        names, grants = list(names), {}
        portions = self._portions(names)
        questions = [
            (
                self._both(portion),
                [token, lease_ms, now_ms, self._listens_ms, ORPHAN_MS, *(seen.get(name, b"") for name in portion)],
            )
            for portion in portions
        ]
        for portion, found in zip(portions, self._run("acquire", questions), strict=True):
            for name, data, mine in zip(portion, found[::2], found[1::2], strict=True):
                grants[name] = Grant(data, bool(mine))
        return grants

    @staticmethod
    def _portions(names: list[str]) -> list[list[str]]:
        return [names[start : start + PORTION_KEYS] for start in range(0, len(names), PORTION_KEYS)]

    def fill(self, token: str, entries: Mapping[str, bytes], life_ms: Mapping[str, int]) -> set[str]:
        """Store what was loaded; answers the keys whose lease still was the token's."""
        portions = self._portions(list(entries))
        questions = [
            (self._both(portion), [token, *(value for name in portion for value in (entries[name], life_ms[name]))])
            for portion in portions
        ]
        answers = zip(portions, self._run("fill", questions), strict=True)
        return {name for portion, stored in answers for name, done in zip(portion, stored, strict=True) if done}

    def release(self, token: str, names: Iterable[str], keep_ms: int) -> None:
        """Give leases back; for `keep_ms` nobody gets them."""
        self._run("release", [(self._leases(portion), [token, keep_ms]) for portion in self._portions(list(names))])

    def invalidate(self, names: Iterable[str], message: str) -> int:
        """Forget entries and leases and publish the message; answers how many entries there were."""
        names = list(names)
        return int(sum(self._run("invalidate", [(self._both(names), [self.channel, message])]))) if names else 0

    def replace(self, name: str, seen: bytes, data: bytes, life_ms: int | None, message: str) -> bool:
        """Write unless somebody else did since `seen`, an entry's header, was read; publish the message if so."""
        arguments = [seen, data, life_ms or 0, self.channel, message]
        [written] = self._run("replace", [(self._both([name]), arguments)])
        return bool(written)

    @nothing_for_nothing()
    def write(self, entries: Mapping[str, bytes], life_ms: int | None, message: str) -> None:
        """Write whatever is there, take leases back, and publish the message."""
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

    def _entries(self, names: Iterable[str]) -> list[bytes]:
        return [f"{self._prefix}entry:{name}".encode(errors=ODD_NAMES) for name in names]

    def _leases(self, names: Iterable[str]) -> list[bytes]:
        return [f"{self._prefix}lease:{name}".encode(errors=ODD_NAMES) for name in names]

    def _both(self, names: Iterable[str]) -> list[bytes]:
        return [*self._entries(names), *self._leases(names)]

    def _run(self, script: str, questions: list[tuple[list[bytes], list[Any]]]) -> list[Any]:
        """What the script answers to each question, all in one round trip."""
        if not questions:
            return []
        with self._asking():
            try:
                return self._ask_all(script, questions)
            except redis.exceptions.NoScriptError:  # a Redis that was started anew; scripts may run twice unharmed
                self._client.script_load(_source(script))
                return self._ask_all(script, questions)

    def _ask_all(self, script: str, questions: list[tuple[list[bytes], list[Any]]]) -> list[Any]:
        if len(questions) == 1:
            [(keys, arguments)] = questions
            return [self._client.evalsha(_digest(script), len(keys), *keys, *arguments)]
        step = self._client.pipeline(transaction=False)
        for keys, arguments in questions:
            step.evalsha(_digest(script), len(keys), *keys, *arguments)
        return list(step.execute())

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self.guard.watching():
                yield
        except (Refused, redis.RedisError, OSError) as error:
            raise TierAway(f"cache Redis: {error!r}") from error

    @cached_property
    def _listens_ms(self) -> int:
        """How long an answer is waited for; 0 where it is for ever."""
        return int(1000 * (self._client.connection_pool.connection_kwargs.get("socket_timeout") or 0))

    @cached_property
    def _client(self) -> Any:
        return get_redis_connection(self._alias)

    def subscription(self) -> Any:
        """The channel of invalidated keys; a connection of its own. The caller closes it."""
        listening = self._client.pubsub()
        listening.subscribe(self.channel)
        return listening


@cache
def _source(script: str) -> str:
    return Path(__file__).with_name(f"{script}.lua").read_text()


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(_source(script).encode(), usedforsecurity=False).hexdigest()
