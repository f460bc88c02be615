"""Memcached through one pool of connections for each process; Django's own backend connects anew for each request."""

import json
import os
from functools import lru_cache
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from pymemcache.client.base import PooledClient

#: Seconds for a connection or an answer: a cache that takes longer is slower than having none.
TIMEOUT_SECONDS = 0.05
#: Connections of one process.
POOL_SIZE = 32


class JsonSerde:
    """Values as JSON, never pickle: whoever can write to memcached must not be able to run code here."""

    def serialize(self, _key: bytes, value: Any) -> tuple[bytes, int]:
        return json.dumps(value).encode(), 0

    def deserialize(self, _key: bytes, value: bytes, _flags: int) -> Any:
        return json.loads(value)


class MemcachedTier(BaseCache):
    """`LOCATION` is a socket's path or host:port."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._location = location

    @property
    def _client(self) -> PooledClient:
        return _pool(self._location, os.getpid())

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        value = self._client.get(self.make_and_validate_key(key, version=version))
        return default if value is None else value[0]

    def set(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        expire = 0 if seconds is None else max(1, int(seconds))  # memcached takes 0 for always
        self._client.set(self.make_and_validate_key(key, version=version), [value], expire=expire)

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(self._client.delete(self.make_and_validate_key(key, version=version), noreply=False))

    def clear(self) -> None:
        self._client.flush_all()


@lru_cache(maxsize=8)
def _pool(location: str, _process: int) -> PooledClient:
    """One pool for each process: a fork must not share its parent's connections."""
    return PooledClient(
        location,
        serde=JsonSerde(),
        connect_timeout=TIMEOUT_SECONDS,
        timeout=TIMEOUT_SECONDS,
        max_pool_size=POOL_SIZE,
        no_delay=not location.startswith("/"),
    )
