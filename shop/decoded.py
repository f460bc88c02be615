"""What is made of cached values, made once for each value and not for each request."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")

#: Keys whose last value is remembered with what was made of it: pages of a few hundred sales, each in two languages.
KEYS_MAXIMUM = 1_000


class Decoded(Generic[Made]):
    """`of(key, value)` is `make(value)`. Process memory answers with the same object until it is loaded again, so
    whether there is anything to make takes one comparison to find out."""

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make
        self._known: dict[str, tuple[Any, Made]] = {}

    def of(self, key: str, value: Any) -> Made:
        known = self._known.get(key)
        if known is not None and known[0] is value:
            return known[1]
        if len(self._known) >= KEYS_MAXIMUM:
            self._known.clear()
        made = self._make(value)
        self._known[key] = (value, made)
        return made
