"""One Django cache over several tiers: the fastest that knows a key answers, and what was found below is kept above.

A tier that fails is skipped and said in the log: a cache may slow a page down, never take it down.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

#: Seconds that process memory keeps what came from below: how stale one process may be against another.
MEMORY_SECONDS = 1.0
_MISSING = object()
#: A lock for each key that is being loaded, for as long as somebody holds or waits for it. Not one lock for several
#: keys: a load may read other keys, and would wait for itself.
_loading: WeakValueDictionary[str, Any] = WeakValueDictionary()
_loading_changes = threading.Lock()

logger = logging.getLogger(__name__)


class TieredCache(BaseCache):
    """`OPTIONS = {"tiers": [alias, ...]}` from fastest to farthest; the first one is process memory."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._memory, *self._below = params["OPTIONS"]["tiers"]

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        key = self.make_and_validate_key(key, version=version)
        value = caches[self._memory].get(key, _MISSING)
        if value is not _MISSING:
            return value

        for depth, tier in enumerate(self._below):
            value = self._try(tier, "get", key, _MISSING, otherwise=_MISSING)
            if value is not _MISSING:
                caches[self._memory].set(key, value, MEMORY_SECONDS)
                for nearer in self._below[:depth]:
                    self._try(nearer, "set", key, value, MEMORY_SECONDS)
                return value
        return default

    def set(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        key = self.make_and_validate_key(key, version=version)
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        caches[self._memory].set(key, value, MEMORY_SECONDS if seconds is None else min(seconds, MEMORY_SECONDS))
        if seconds is None or seconds >= 1:  # memcached and Redis count whole seconds, and take 0 for always
            for tier in self._below:
                self._try(tier, "set", key, value, seconds)

    def add(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        if self.get(key, _MISSING, version=version) is not _MISSING:
            return False
        self.set(key, value, timeout, version=version)
        return True

    def delete(self, key: str, version: int | None = None) -> bool:
        key = self.make_and_validate_key(key, version=version)
        gone = [self._try(tier, "delete", key, otherwise=False) for tier in reversed(self._below)]
        return caches[self._memory].delete(key) or any(gone)

    def clear(self) -> None:
        for tier in reversed(self._below):
            self._try(tier, "clear")
        caches[self._memory].clear()

    def get_or_set(
        self,
        key: str,
        default: Callable[[], Any] | Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """The cached value, or what `default` returns: called once for all readers of this process."""
        value = self.get(key, _MISSING, version=version)
        if value is not _MISSING:
            return value
        with _lock_of(self.make_key(key, version=version)):
            value = self.get(key, _MISSING, version=version)
            if value is _MISSING:
                value = default() if callable(default) else default
                self.set(key, value, timeout, version=version)
            return value

    def _try(self, tier: str, verb: str, *arguments: Any, otherwise: Any = None) -> Any:
        try:
            return getattr(caches[tier], verb)(*arguments)
        except Exception as error:
            logger.warning("cache tier %s cannot %s: %s", tier, verb, error)
            return otherwise


def _lock_of(key: str) -> Any:
    with _loading_changes:
        lock = _loading.get(key)
        if lock is None:
            lock = _loading[key] = threading.Lock()
        return lock
