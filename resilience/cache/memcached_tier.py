"""The second tier: memcached, over one pool of connections for each node and process.

Not Django's backend, which connects anew for each request, and not pymemcache's HashClient, which threads may not share
and which gives the keys of a dead node to others: they would miss twice, when it goes and when it comes back.
Here a dead node is a miss, and Redis answers.

Entries are only added or exchanged for one that was read, never overwritten, and an invalidated key carries a
**tombstone** for some seconds: so a reader that was slow cannot bring back what it read before.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError
from pymemcache.pool import ObjectPool

from resilience.cache.away import TierAway
from resilience.guard import Guard, Thresholds
from resilience.refused import Refused

#: Seconds for a connection or an answer: a cache that takes longer is slower than having none.
TIMEOUT_SECONDS = 0.05
#: Connections of one process to one node: more than its request threads.
POOL_SIZE = 128
#: Seconds an entry stays: bounds how long a lost invalidation is believed. Never 1, which memcached may end at once.
KEPT_SECONDS = 10
#: Seconds that an invalidated key refuses old values: longer than a reader that began before may take.
TOMBSTONE_SECONDS = 5
TOMBSTONE = b""
#: Before the key of an entry: that of its lease.
LEASE = "lease:"
#: memcached's longest key, and what it takes in one: printable ASCII without blanks.
KEY_BYTES = 250
PLAIN_KEY = re.compile(r"[!-~]+")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Found:
    """The bytes of an entry, and the token to exchange exactly these for others."""

    data: bytes
    token: bytes


class MemcachedTier:
    """`nodes` are sockets' paths or host:port. Keys share the nodes by rendezvous hashing."""

    def __init__(self, nodes: Iterable[str], prefix: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._prefix = prefix
        self._nodes = {location: _Node(location, timeout_seconds) for location in nodes}
        self._hash = RendezvousHash(list(self._nodes))

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def read(self, names: Iterable[str]) -> dict[str, Found]:
        """What is there of these keys, tombstones among it; nodes that are away know nothing.

        Raises TierAway when none of the nodes could be asked.
        """

        def ask(node: _Node, keys: Mapping[str, str]) -> dict[str, Found]:
            answers = node.ask(lambda client: client.gets_many(list(keys)))
            return {keys[key]: Found(data, token) for key, (data, token) in answers.items()}

        found: dict[str, Found] = {}
        for answer in self._each_node(names, ask):
            found |= answer
        return found

    def store(self, entries: Mapping[str, bytes], instead_of: Mapping[str, Found]) -> None:
        """Add those that were not found before, and exchange those that were, as long as nobody else did."""

        def tell(node: _Node, keys: Mapping[str, str]) -> None:
            new = {key: entries[name] for key, name in keys.items() if name not in instead_of}
            if new:
                node.ask(lambda client: client.add_many(new, KEPT_SECONDS))
            for key, name in keys.items():
                if (old := instead_of.get(name)) and old.data != TOMBSTONE:
                    node.ask(partial(_exchange, key, entries[name], old))

        self._each_node(entries, tell)

    def write(self, entries: Mapping[str, bytes]) -> None:
        """Whatever is there: for the time when Redis, which orders writes, is away. Raises TierAway."""
        if not self:
            raise TierAway("there is no memcached")

        def tell(node: _Node, keys: Mapping[str, str]) -> None:
            node.ask(
                lambda client: client.set_many(
                    {key: entries[name] for key, name in keys.items()}, KEPT_SECONDS, noreply=False
                )
            )

        self._each_node(entries, tell, all_of_them=True)

    def bury(self, names: Iterable[str]) -> None:
        """Raises TierAway when a node of these keys could not be told."""

        def tell(node: _Node, keys: Mapping[str, str]) -> None:
            node.ask(lambda client: client.set_many(dict.fromkeys(keys, TOMBSTONE), TOMBSTONE_SECONDS, noreply=False))

        self._each_node(names, tell, all_of_them=True)

    def clear(self) -> None:
        for node in self._nodes.values():
            node.ask(lambda client: client.flush_all(noreply=False))

    def lease(self, names: Iterable[str], token: str, seconds: int) -> set[str]:
        """The keys that the asker may load: leases for the time when Redis, which keeps them, is away.

        They may be lost with their node, and then two load; never more is wrong than that.
        """

        def ask(node: _Node, keys: Mapping[str, str]) -> set[str]:
            given = node.ask(lambda client: client.add_many(dict.fromkeys(keys, token.encode()), seconds))
            return {keys[key].removeprefix(LEASE) for key, mine in given.items() if mine}

        return set().union(*self._each_node([LEASE + name for name in names], ask))

    def leased(self, names: Iterable[str], token: str) -> set[str]:
        """Those of the keys whose lease is still the token's."""
        found = self.read([LEASE + name for name in names])
        return {name.removeprefix(LEASE) for name, lease in found.items() if lease.data == token.encode()}

    def end_leases(self, names: Iterable[str]) -> None:
        def tell(node: _Node, keys: Mapping[str, str]) -> None:
            node.ask(lambda client: client.delete_many(list(keys), noreply=False))

        self._each_node([LEASE + name for name in names], tell)

    def _each_node(
        self, names: Iterable[str], ask: "Callable[[_Node, Mapping[str, str]], Result]", *, all_of_them: bool = False
    ) -> list[Result]:
        """What each node says of its own keys: one trip to each that has any. Nothing is said where there are none."""
        shares: dict[_Node, dict[str, str]] = defaultdict(dict)
        for name in names if self else ():
            key = self._key(name)
            shares[self._node(key)][key] = name
        answers, away = [], None
        for node, keys in shares.items():
            try:
                answers.append(ask(node, keys))
            except TierAway as error:
                away = error
        if away and (all_of_them or not answers):
            raise away
        return answers

    def _node(self, key: str) -> "_Node":
        if len(self._nodes) == 1:
            return next(iter(self._nodes.values()))
        return self._nodes[self._hash.get_node(key)]

    def _key(self, name: str) -> str:
        key = self._prefix + name
        if len(key) <= KEY_BYTES and PLAIN_KEY.fullmatch(key):
            return key
        return (
            self._prefix
            + "hashed:"
            + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        )

    def reset_after_fork(self) -> None:
        for node in self._nodes.values():
            node.reset_after_fork()


class _Node:
    def __init__(self, location: str, timeout_seconds: float) -> None:
        self.location = location
        self._timeout_seconds = timeout_seconds
        limits = Thresholds(slow_seconds=max(Thresholds().slow_seconds, timeout_seconds))
        self.guard = Guard(f"memcached {location}", at_once=POOL_SIZE, thresholds=limits)

    def ask(self, question: Callable[[Any], Result]) -> Result:
        """Raises TierAway."""
        try:
            with self.guard.watching():
                return question(self._pool)
        except (Refused, MemcacheError, OSError) as error:
            raise TierAway(f"memcached {self.location}: {error!r}") from error

    @cached_property
    def _pool(self) -> "_Pool":
        return _Pool(
            self.location,
            connect_timeout=self._timeout_seconds,
            timeout=self._timeout_seconds,
            max_pool_size=POOL_SIZE,
            no_delay=not self.location.startswith("/"),
        )

    def reset_after_fork(self) -> None:
        """A connection that two processes use gives each the other's answers."""
        self.__dict__.pop("_pool", None)


class _Client(Client):
    def add_many(self, values: Mapping[str, bytes], seconds: int) -> dict[str, bool]:
        """`add` for many keys in one trip, which pymemcache has for `set` alone; True for those that were not there."""
        return dict(self._store_cmd(b"add", dict(values), seconds, noreply=False))


class _Connections(ObjectPool):
    def get(self) -> Any:
        try:
            return super().get()
        except RuntimeError as full:  # a server that hangs holds them all: one more reason to do without it
            raise MemcacheError(str(full)) from full

    @contextmanager
    def get_and_release(self, destroy_on_fail: bool = False) -> Iterator[Any]:
        """pymemcache's own keeps the place of a connection whose user was killed, and hands out one on which an answer
        is still to come."""
        lent = self.get()
        try:
            yield lent
        except BaseException as error:
            self.destroy(lent)
            if isinstance(error, OSError | MemcacheUnexpectedCloseError):
                self._destroy_idle()
            raise
        self.release(lent)

    def _destroy_idle(self) -> None:
        """A server that was started anew has closed them all: each would fail one more trial of the breaker."""
        with suppress(IndexError):
            while True:
                self._after_remove(self._free_objs.popleft())


class _Pool(PooledClient):
    client_class = _Client

    def __init__(self, server: str, **how: Any) -> None:
        super().__init__(server, **how)
        self.client_pool = _Connections(
            self._create_client, after_remove=lambda client: client.close(), max_size=how["max_pool_size"]
        )

    def add_many(self, values: Mapping[str, bytes], seconds: int) -> dict[str, bool]:
        with self.client_pool.get_and_release() as client:
            return dict(client.add_many(values, seconds))


def _exchange(key: str, data: bytes, old: Found, client: Any) -> None:
    client.cas(key, data, old.token, KEPT_SECONDS, noreply=False)
