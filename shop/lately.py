"""What was found out a moment ago need not be looked for again: at a thousand answers a second, most of them share one
look at the caches."""

import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from django.core.cache import caches

Found = TypeVar("Found")

#: Keys that are remembered: more than are asked for in a moment.
KEYS_MAXIMUM = 1_000


class Lately(Generic[Found]):
    """`of(key, find, ...)` is `find(...)`, or what that has found in the last `seconds`. Something that is invalidated
    in the caches ends all of them at once; that nothing was found is not remembered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[Hashable, tuple[int, float, Found]] = {}
        cache: Any = caches["default"]
        self._stack = cache.stack

    def of(self, key: Hashable, find: Callable[..., Found | None], *arguments: Any) -> Found | None:
        known = self._known.get(key)
        generation, now = self._stack.generation, time.monotonic()
        if known and known[0] == generation and now < known[1]:
            return known[2]
        found = find(*arguments)
        if found:
            if len(self._known) >= KEYS_MAXIMUM:
                self._known.clear()
            self._known[key] = generation, now + self._seconds, found  # counted from before the look
        return found
