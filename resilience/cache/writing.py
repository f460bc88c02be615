"""Writes and invalidations: memcached refuses old values from now on, then Redis changes and tells all processes.

A reader that began before may still be on its way with an old value. Nothing takes it: memcached has a tombstone, Redis
has taken back the lease, and memory is of a later generation."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from resilience.cache import envelope
from resilience.cache.away import TierAway
from resilience.cache.envelope import Entry, Unreadable
from resilience.cache.stack import Stack, callables
from resilience.clock import now_ms
from resilience.empty import nothing_for_nothing

#: How often an atomic change is tried again when others change the same key.
ATTEMPTS = 100

Told = TypeVar("Told")

logger = logging.getLogger(__name__)


#: A fresh entry or None -> (value, fresh seconds) to write, or None to leave it.
Change = Callable[[Entry | None], tuple[Any, float | None] | None]


class Contended(Exception):
    """Others changed the key each time before this change was written."""


def write(stack: Stack, values: Mapping[str, Any], fresh_seconds: float | None) -> None:
    """Store the values for so long, None for ever, in all tiers that are there.

    Raises TypeError for what JSON cannot hold; nothing is written then.
    """
    packed = {name: envelope.pack(value, now_ms(), fresh_seconds) for name, value in values.items()}
    if not packed:
        return
    names, generation = list(packed), stack.generation
    try:
        _bury(stack, names)
        stack.redis.write(packed, _life_ms(fresh_seconds), stack.bus.message(names))
    except TierAway as error:
        _without_redis(stack, packed, error)
    _keep(stack, packed, generation)


def _keep(stack: Stack, packed: Mapping[str, bytes], generation: int) -> None:
    """Have what was written in memory, unless somebody else wrote since that generation: theirs may be the later."""
    stack.bus.listen()
    entries, _ = envelope.unpack_many(packed)
    stack.forget(list(packed))
    stack.keep(entries, 0.0, generation + 1)  # what was forgotten just now is one


def _without_redis(stack: Stack, packed: Mapping[str, bytes], error: TierAway) -> None:
    """memcached serves for a while; what Redis still has is old, and will have to be forgotten when it is back."""
    try:
        stack.memcached.write(packed)
    except TierAway:
        logger.warning("%d cache keys are kept in this process alone: %s", len(packed), error)
    callables.invalidate_later(list(packed))


def _bury(stack: Stack, names: Sequence[str]) -> None:
    """A memcached that is away is told later; Redis decides meanwhile, and an entry there lives for seconds."""
    try:
        stack.memcached.bury(names)
    except TierAway:
        callables.invalidate_later(list(names))


@nothing_for_nothing(of="names", returns=bool)
def invalidate(stack: Stack, names: Sequence[str]) -> bool:
    """Forget keys in all tiers and all processes; True when Redis had one of them. What a tier refused twice is tried
    again later."""
    existed, everywhere = _tell_all(stack, names)
    if not everywhere:
        callables.invalidate_later(list(names))
    return bool(existed)


@nothing_for_nothing(of="names")
def invalidate_again(stack: Stack, names: Sequence[str]) -> None:
    """The same, for whoever tries again by himself. Raises TierAway when a tier refused it."""
    if not _tell_all(stack, names)[1]:
        raise TierAway(f"{len(names)} cache keys are not invalidated everywhere yet")


def _tell_all(stack: Stack, names: Sequence[str]) -> tuple[int | None, bool]:
    """How many of them Redis had, and whether each tier has heard it."""
    message = stack.bus.message(names)
    _, buried = _twice(lambda: stack.memcached.bury(names))
    existed, forgotten = _twice(lambda: stack.redis.invalidate(names, message))
    stack.forget(names)
    return existed, buried and forgotten


def _twice(tell: Callable[[], Told]) -> tuple[Told | None, bool]:
    """What the tier answered, and whether it did: one that is away keeps nobody from telling the other.

    Twice, because a connection that lay idle in the pool may have ended meanwhile. It needs no budget: after three
    failures in a row the tier's breaker lets one question a second through.
    """
    for _ in range(2):
        try:
            return tell(), True
        except TierAway as error:
            logger.info("cache keys are not invalidated everywhere yet: %s", error)
    return None, False


def clear(stack: Stack) -> None:
    """Forget everything that has this cache's prefix in Redis, and all of memcached."""
    for tell in (stack.memcached.clear, lambda: stack.redis.clear(stack.bus.message(None))):
        try:
            tell()
        except TierAway as error:
            logger.warning("the cache is not cleared everywhere: %s", error)
    stack.forget_all()


def change(stack: Stack, name: str, new: Change) -> bool:
    """Read, compute, write, as one step: again when somebody else was in between. `new` gets the fresh entry or None,
    and answers (value, fresh seconds) to write, or None to leave it; False when it was left.

    Raises TierAway when there is no Redis to be atomic in, and Contended.
    """
    message = stack.bus.message([name])
    for _ in range(ATTEMPTS):
        generation = stack.generation
        data = stack.redis.read([name]).get(name)
        wanted = new(_fresh_entry(data))
        if wanted is None:
            return False
        packed = envelope.pack(wanted[0], now_ms(), wanted[1])
        _bury(stack, [name])
        if stack.redis.replace(name, (data or b"")[: envelope.HEADER_BYTES], packed, _life_ms(wanted[1]), message):
            _keep(stack, {name: packed}, generation)
            return True
    raise Contended(name)


def _life_ms(fresh_seconds: float | None) -> int | None:
    """Redis takes neither nothing nor more than its own clock holds."""
    return None if fresh_seconds is None else min(max(1, int(fresh_seconds * 1000)), envelope.NEVER_MS)


def _fresh_entry(data: bytes | None) -> Entry | None:
    try:
        entry = envelope.unpack(data or b"")
    except Unreadable:
        return None
    return entry if entry.left_ms(now_ms()) > 0 else None
