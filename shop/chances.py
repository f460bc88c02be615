"""Whether there is any point in waiting for a unit: known from this process's memory, and nobody is asked.

Looked at only while nobody gets in without a wait. Two things are said at once, instead of after one:

* who asks for a ticket while nothing is left hears SOLD_OUT, from the very counters that the view would look at;
* who presses Buy behind as many as there are units hears BUSY. Those before may still fail, and units come back, so it
  is not sold out; a moment later the truth is known.

A click on a sale with nothing left does wait: its ticket may name a reservation, and then it is its buyer's.
"""

import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic

from resilience.admission import Verdict
from shop import catalog
from shop.degraded import Kind

SALES = "/sales/"


class Chances:
    """Counts who waits to buy, by sale."""

    def __init__(self, units_left: Callable[[str], int | None] | None = None) -> None:
        self._units_left = units_left or remembered_units
        self._waiting: Counter[str] = Counter()
        self._counting = threading.Lock()

    def wait(self, path: str, enter: Callable[[], Verdict]) -> Verdict | Kind:
        """What `enter` says, or why there is no point in asking."""
        slug, _, verb = path.removeprefix(SALES).partition("/")
        left = self._units_left(slug)
        if verb == "ticket":
            return Kind.SOLD_OUT if left == 0 else enter()
        with self._counting:
            if left and self._waiting[slug] >= left:
                return Kind.BUSY
            self._waiting[slug] += 1
        try:
            return enter()
        finally:
            self._gone(slug)

    def _gone(self, slug: str) -> None:
        with self._counting:
            self._waiting[slug] -= 1
            if not self._waiting[slug]:
                del self._waiting[slug]  # whatever addresses are asked for, those that wait are all that is kept


def remembered_units(slug: str) -> int | None:
    """Units available in all offers of the sale, as this process saw them a moment ago; None when it has not looked."""
    kept = catalog.cache.stack.memory.find(catalog.live_key(slug))
    if kept is None or monotonic() >= kept.stale_until or not kept.value:
        return None
    return sum(int(levels["available"]) for levels in kept.value.values())
