"""Checking the promises from data alone, by SQL and Redis reads of its own: it shares no code with what writes them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection

from inventory._connection import asking_redis, stock_redis

#: PostgreSQL's word for a reservation -> the words that Redis may have for it.
_SAME = {
    "held": {"held", "placed"},
    "confirmed": {"paid"},
    "released": {"released"},
    "expired": {"expired"},
    "refused": {"refused"},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that the data break: its number in the README, the offer, and what was seen."""

    promise: int
    offer_id: int
    seen: str


def findings(offer_id: int) -> list[Finding]:
    """Everything that is wrong with an offer at this moment; what is on its way between the stores counts as drift.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
    with asking_redis():
        return [*_record(offer_id), *_limits(offer_id), *_redis(offer_id)]


def _rows(sql: str, *arguments: int) -> list[tuple[int, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())


def _record(offer_id: int) -> Iterator[Finding]:
    """PostgreSQL's counters are the sums of its own rows, and fit the quantity."""
    [(quantity, held, sold, held_rows, sold_rows)] = _rows(
        """
        SELECT s.quantity, s.held, s.sold,
               coalesce(sum(r.units) FILTER (WHERE r.state = 'held'), 0),
               coalesce(sum(r.units) FILTER (WHERE r.state = 'confirmed'), 0)
          FROM inventory_stock s LEFT JOIN inventory_reservation r ON r.stock_id = s.id
         WHERE s.id = %s GROUP BY s.id
        """,
        offer_id,
    )
    if held_rows + sold_rows > quantity:
        yield Finding(1, offer_id, f"oversold: {held_rows} held and {sold_rows} sold of {quantity}")
    if (held, sold) != (held_rows, sold_rows):
        yield Finding(1, offer_id, f"counters say {held} held, {sold} sold; rows say {held_rows}, {sold_rows}")


def _limits(offer_id: int) -> Iterator[Finding]:
    over = _rows(
        """
        SELECT r.buyer_id, sum(r.units), s.unit_limit
          FROM inventory_reservation r JOIN inventory_stock s ON s.id = r.stock_id
         WHERE s.id = %s AND r.state IN ('held', 'confirmed')
         GROUP BY r.buyer_id, s.unit_limit HAVING sum(r.units) > s.unit_limit
        """,
        offer_id,
    )
    for buyer_id, units, limit in over:
        yield Finding(2, offer_id, f"buyer {buyer_id} has {units} units, the limit is {limit}")


def _redis(offer_id: int) -> Iterator[Finding]:
    """Redis's counters are the sums of its own records, and its records are PostgreSQL's."""
    units = {str(name): _whole(str(value)) for name, value in stock_redis().hgetall(f"{{o:{offer_id}}}:units").items()}
    rows = _rows("SELECT id, state, buyer_id, units FROM inventory_reservation WHERE stock_id = %s", offer_id)
    if not units:
        [(archived,)] = _rows("SELECT archived FROM inventory_stock WHERE id = %s", offer_id)
        if rows and not archived:
            yield Finding(8, offer_id, "Redis has lost this offer: `rebuild` fills it again")
        return

    records = dict(_records(offer_id))
    yield from _redis_counters(offer_id, units, records)
    yield from _drift(offer_id, {str(row[0]): row[1:] for row in rows}, records)


def _whole(value: str) -> int:
    return int(value) if value.lstrip("-").isdigit() else 0


def _records(offer_id: int) -> Iterator[tuple[str, tuple[str, int, int]]]:
    for reservation_id, record in stock_redis().hscan_iter(f"{{o:{offer_id}}}:reservations", count=1000):
        state, buyer_id, units = record.split(":")[:3]
        yield reservation_id, (state, int(buyer_id), int(units))


def _redis_counters(
    offer_id: int, units: dict[str, int], records: dict[str, tuple[str, int, int]]
) -> Iterator[Finding]:
    quantity, available, held, sold = (units[name] for name in ("quantity", "available", "held", "sold"))
    if quantity != available + held + sold or min(available, held, sold) < 0:
        yield Finding(1, offer_id, f"Redis: {quantity} is not {available} available + {held} held + {sold} sold")

    by_state, by_buyer = Counter[str](), Counter[int]()
    for state, buyer_id, its_units in records.values():
        by_state[state] += its_units
        by_buyer[buyer_id] += its_units if state in ("held", "placed", "paid") else 0
    if (by_state["held"] + by_state["placed"], by_state["paid"]) != (held, sold):
        yield Finding(1, offer_id, f"Redis counts {held} held, {sold} sold; its records say {dict(by_state)}")
    for buyer_id, has in by_buyer.items():
        if has > units["limit"]:
            yield Finding(2, offer_id, f"Redis: buyer {buyer_id} has {has} units, the limit is {units['limit']}")
    counted = {
        int(b): int(v.split(":")[0]) for b, v in stock_redis().hscan_iter(f"{{o:{offer_id}}}:buyers", count=1000)
    }
    if counted != {buyer_id: has for buyer_id, has in by_buyer.items() if has}:
        yield Finding(2, offer_id, "Redis: the units of its buyers are not the sums of their reservations")


def _drift(
    offer_id: int, rows: dict[str, tuple[int, ...]], records: dict[str, tuple[str, int, int]]
) -> Iterator[Finding]:
    for reservation_id in records.keys() - rows.keys():
        yield Finding(8, offer_id, f"{reservation_id} is in Redis and not in PostgreSQL")
    for reservation_id in rows.keys() - records.keys():
        yield Finding(8, offer_id, f"{reservation_id} is in PostgreSQL and not in Redis")
    for reservation_id in rows.keys() & records.keys():
        row, record = rows[reservation_id], records[reservation_id]
        if record[0] not in _SAME[str(row[0])] or row[1:] != record[1:]:
            yield Finding(8, offer_id, f"{reservation_id} is {row} in PostgreSQL and {record} in Redis")
