"""A read without a loader: what the tiers have, and nothing else."""

from collections.abc import Iterable

from resilience.cache import envelope
from resilience.cache.away import TierAway
from resilience.cache.envelope import Entry
from resilience.cache.stack import Stack
from resilience.clock import now_ms
from resilience.empty import nothing_for_nothing


def look(stack: Stack, names: Iterable[str]) -> dict[str, Entry]:
    """The fresh entries among these keys: one trip to each tier, for what the one before did not have."""
    missing = list(dict.fromkeys(names))
    found: dict[str, Entry] = {}
    for tier in ("memcached", "redis"):
        entries = _fresh(_read(stack, tier, missing))
        stack.tallies.count(tier, entries)
        found |= entries
        missing = [name for name in missing if name not in found]
    return found


@nothing_for_nothing(of="names", returns=dict)
def _read(stack: Stack, tier: str, names: list[str]) -> dict[str, bytes]:
    if tier == "memcached":
        return {name: found.data for name, found in stack.in_memcached(names).items()}
    try:
        return stack.redis.read(names)
    except TierAway:
        return {}


def _fresh(data: dict[str, bytes]) -> dict[str, Entry]:
    entries, _ = envelope.unpack_many(data)  # what is unreadable is a tombstone, or somebody else's
    wall_ms = now_ms()
    return {name: entry for name, entry in entries.items() if entry.left_ms(wall_ms) > 0}
