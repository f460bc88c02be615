"""The memory of sold out: most of a spike comes when nothing is left, and need not ask Redis one by one.

For MEMORY_SECONDS a process remembers of an offer that nothing was left and when the last unit was held. Whoever got a
ticket later than that cannot have a reservation, so the answer is SOLD_OUT; an older ticket may name a reservation and
is asked for in Redis. A unit that comes back is on sale again when the memory has run out.
"""

import os
import threading
import time
from dataclasses import dataclass

from inventory import _keys
from inventory._connection import asking_redis, stock_redis
from inventory.outcomes import InventoryUnavailable

#: Seconds: somebody whose unit came back waits as long to sell it, and nine of ten clicks cost nothing.
MEMORY_SECONDS = 0.1
#: Milliseconds that the clock of Redis and that of a web process may differ.
CLOCKS_DIFFER_MS = 1_000
#: Offers that a process remembers: more than are on sale at a time.
OFFERS_MAXIMUM = 1_000


@dataclass(frozen=True, slots=True)
class _Memory:
    last_held_at_ms: int
    ends_at: float


_memory: dict[int, _Memory] = {}
#: Held by whoever looks: of all who hear SOLD_OUT at the same moment, one.
_looking = threading.Lock()


def is_remembered(offer_id: int, issued_at_ms: int) -> bool:
    """Whether a ticket of that time would find nothing, for certain; False also means: ask."""
    memory = _memory.get(offer_id)
    return (
        memory is not None
        and issued_at_ms > memory.last_held_at_ms + CLOCKS_DIFFER_MS
        and time.monotonic() < memory.ends_at
    )


def learn(offer_id: int) -> None:
    """Called by whoever has heard SOLD_OUT from Redis: look at what that means, once for each memory."""
    known = _memory.get(offer_id)
    if known and time.monotonic() < known.ends_at:
        return
    if _looking.acquire(blocking=False):
        try:
            _remember(offer_id)
        finally:
            _looking.release()


def _remember(offer_id: int) -> None:
    ends_at = time.monotonic() + MEMORY_SECONDS  # counted from before the look
    if len(_memory) >= OFFERS_MAXIMUM:
        _memory.clear()
    last_held_at_ms = _look(offer_id)
    if last_held_at_ms is None:
        _memory.pop(offer_id, None)
    else:
        _memory[offer_id] = _Memory(last_held_at_ms, ends_at)


def forget() -> None:
    """Everything: for tests."""
    _memory.clear()


def _start_over_in_a_fork() -> None:
    """Who looked is not in the child."""
    global _looking
    _looking = threading.Lock()


os.register_at_fork(after_in_child=_start_over_in_a_fork)


def _look(offer_id: int) -> int | None:
    """When the last unit was held (ms by Redis's clock); None when some are left, or nobody can say."""
    try:
        with asking_redis():
            available, at_ms = stock_redis().hmget(_keys.units(offer_id), "available", "granted_at_ms")
    except InventoryUnavailable:
        return None
    return int(at_ms) if available == "0" and at_ms else None
