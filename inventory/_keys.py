"""The keys of an offer in stock Redis. They share a hash tag, so that each script runs on one node of a cluster.

None of them ever expires: `maxmemory-policy noeviction` guards them, and a closed sale is archived by hand.

    {o:7}:units         hash    quantity available held sold limit epoch state opens_at_ms closes_at_ms rang_at_ms,
                                taken (units ever held), waiting (events that PostgreSQL has yet to hear of)
    {o:7}:reservations  hash    reservation id -> state:buyer:units[:order:expires_at_ms]
    {o:7}:buyers        hash    buyer id -> units held and owned:their reservation ids, comma-separated
    {o:7}:events        stream  held reservations in the order of their holds, read by the group `record`
    {o:7}:changes       hash    id of a stock change -> units it moved
"""

#: The consumer group that writes events down in PostgreSQL.
GROUP = "record"
#: The pattern of the first key of every offer.
UNITS_OF_ALL = "{o:*}:units"


def units(offer_id: int) -> str:
    return f"{{o:{offer_id}}}:units"


def offer_of(key: str) -> int:
    return int(key.removeprefix("{o:").partition("}")[0])


def reservations(offer_id: int) -> str:
    return f"{{o:{offer_id}}}:reservations"


def buyers(offer_id: int) -> str:
    return f"{{o:{offer_id}}}:buyers"


def events(offer_id: int) -> str:
    return f"{{o:{offer_id}}}:events"


def changes(offer_id: int) -> str:
    return f"{{o:{offer_id}}}:changes"


def of_reserve(offer_id: int) -> list[str]:
    """The keys of reserve.lua."""
    return [units(offer_id), reservations(offer_id), buyers(offer_id), events(offer_id)]


def all_of(offer_id: int) -> list[str]:
    return [*of_reserve(offer_id), changes(offer_id)]
