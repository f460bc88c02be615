"""How far PostgreSQL is behind Redis, asked of Redis alone: so it is known also while PostgreSQL is away."""

from dataclasses import dataclass

from inventory import _keys
from inventory._connection import asking_redis, pooled, stock_redis
from inventory._scripts import Call, Script

#: Keys that Redis looks at in one step of a search. An offer has five of them, and nothing else lies there.
SEARCH_KEYS = 1_000

_lag = Script("lag.lua")


@dataclass(frozen=True, slots=True)
class Lag:
    """Events that PostgreSQL has yet to hear of, and the age of the oldest by the clock of Redis."""

    events: int
    oldest_ms: int


def lag() -> Lag:
    """Of all offers that Redis knows, together: Lag(0, 0) when nothing waits.

    Raises InventoryUnavailable or AnswerLost when Redis cannot be asked, ResponseError when its data are broken.
    """
    with asking_redis():
        offers = [_keys.offer_of(key) for key in stock_redis().scan_iter(_keys.UNITS_OF_ALL, count=SEARCH_KEYS)]
    calls: list[Call] = [([_keys.units(offer_id), _keys.events(offer_id)], []) for offer_id in offers]
    replies = _lag.run_each(calls, pooled(stock_redis()))
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return Lag(sum(events for events, _ in replies), max((age_ms for _, age_ms in replies), default=0))
