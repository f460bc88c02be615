"""A read without a loader: what the tiers have, and nothing else."""

from collections.abc import Iterable

from resilience.cache import envelope
from resilience.cache.away import TierAway
from resilience.cache.envelope import Entry, Unreadable
from resilience.cache.stack import Stack
from resilience.clock import now_ms


def look(stack: Stack, names: Iterable[str]) -> dict[str, Entry]:
    """The fresh entries among these keys: one trip to each tier, for what the one before did not have."""
    missing = list(dict.fromkeys(names))
    found: dict[str, Entry] = {}
    for tier in ("memcached", "redis"):
        entries = _fresh(_read(stack, tier, missing))
        for name in entries:
            stack.tallies.count(tier, name)
        found |= entries
        missing = [name for name in missing if name not in found]
    return found


def _read(stack: Stack, tier: str, names: list[str]) -> dict[str, bytes]:
    if not names:
        return {}
    if tier == "memcached":
        return {name: found.data for name, found in stack.in_memcached(names).items()}
    try:
        return stack.redis.read(names)
    except TierAway:
        return {}


def _fresh(data: dict[str, bytes]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name, each in data.items():
        try:
            entry = envelope.unpack(each)
        except Unreadable:  # a tombstone, or somebody else's
            continue
        if entry.left_ms(now_ms()) > 0:
            entries[name] = entry
    return entries
