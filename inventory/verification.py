"""Checking the promises from data alone, by SQL and Redis reads of its own: it shares no code with what writes them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
        return [*_record(offer_id), *_limits(offer_id), *_hours(offer_id), *_redis(offer_id)]


def _rows(sql: str, *arguments: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())


def _record(offer_id: int) -> Iterator[Finding]:
    """PostgreSQL's counters are the sums of its own rows, and the quantity is the sum of the ledger."""
    [(quantity, held, sold, held_rows, sold_rows, ledger)] = _rows(
        """
        SELECT s.quantity, s.held, s.sold,
               coalesce(sum(r.units) FILTER (WHERE r.state = 'held'), 0),
               coalesce(sum(r.units) FILTER (WHERE r.state = 'confirmed'), 0),
               (SELECT sum(CASE WHEN c.state = 'done' THEN c.moved WHEN c.asked > 0 THEN c.asked ELSE 0 END)
                  FROM inventory_stockchange c WHERE c.stock_id = s.id)
          FROM inventory_stock s LEFT JOIN inventory_reservation r ON r.stock_id = s.id
         WHERE s.id = %s GROUP BY s.id
        """,
        offer_id,
    )
    if held_rows + sold_rows > quantity:
        yield Finding(1, offer_id, f"oversold: {held_rows} held and {sold_rows} sold of {quantity}")
    if (held, sold) != (held_rows, sold_rows):
        yield Finding(1, offer_id, f"counters say {held} held, {sold} sold; rows say {held_rows}, {sold_rows}")
    if ledger is not None and ledger != quantity:
        yield Finding(1, offer_id, f"the ledger adds up to {ledger} units, the quantity is {quantity}")


def _limits(offer_id: int) -> Iterator[Finding]:
    """Each buyer's row is the sum of the buyer's reservations, and within the limit that the row was given."""
    wrong = _rows(
        """
        SELECT buyer_id, coalesce(r.units, 0), coalesce(b.units, 0), coalesce(b.unit_limit, 0)
          FROM (SELECT buyer_id, sum(units) AS units FROM inventory_reservation
                 WHERE stock_id = %s AND state IN ('held', 'confirmed') GROUP BY buyer_id) r
          FULL JOIN (SELECT * FROM inventory_buyerunits WHERE stock_id = %s) b USING (buyer_id)
         WHERE coalesce(r.units, 0) <> coalesce(b.units, 0) OR coalesce(r.units, 0) > b.unit_limit
        """,
        offer_id,
        offer_id,
    )
    for buyer_id, has, counted, limit in wrong:
        yield Finding(2, offer_id, f"buyer {buyer_id} has {has} units, counted as {counted}, the limit is {limit}")


def _hours(offer_id: int) -> Iterator[Finding]:
    """Nobody was served before the opening, by the clock of Redis."""
    early = _rows(
        """
        SELECT r.id FROM inventory_reservation r JOIN inventory_stock s ON s.id = r.stock_id
         WHERE s.id = %s AND r.reserved_at < to_timestamp(s.opens_at_ms / 1000.0) AND r.reason <> 'late'
        """,
        offer_id,
    )
    for (reservation_id,) in early:
        yield Finding(3, offer_id, f"{reservation_id} was held before the sale opened")


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
    yield from _quantities(offer_id, units["quantity"])
    yield from _redis_buyers(offer_id, units["limit"], records)
    yield from _drift(offer_id, {str(row[0]): row[1:] for row in rows}, records)
    yield from _under_way(offer_id, units)


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

    by_state = Counter[str]()
    for state, _, its_units in records.values():
        by_state[state] += its_units
    if (by_state["held"] + by_state["placed"], by_state["paid"]) != (held, sold):
        yield Finding(1, offer_id, f"Redis counts {held} held, {sold} sold; its records say {dict(by_state)}")
    if units["taken"] != by_state.total():
        yield Finding(8, offer_id, f"Redis has let {units['taken']} units be held; its records say {by_state.total()}")


def _quantities(offer_id: int, in_redis: int) -> Iterator[Finding]:
    [(quantity,)] = _rows("SELECT quantity FROM inventory_stock WHERE id = %s", offer_id)
    if quantity != in_redis:
        yield Finding(8, offer_id, f"PostgreSQL has {quantity} units in all, Redis {in_redis}")


def _redis_buyers(offer_id: int, limit: int, records: dict[str, tuple[str, int, int]]) -> Iterator[Finding]:
    by_buyer = Counter[int]()
    for state, buyer_id, its_units in records.values():
        by_buyer[buyer_id] += its_units if state in ("held", "placed", "paid") else 0
    kept = dict(_rows("SELECT buyer_id, unit_limit FROM inventory_buyerunits WHERE stock_id = %s", offer_id))
    for buyer_id, has in by_buyer.items():
        if has > max(limit, kept.get(buyer_id, 0)):
            yield Finding(2, offer_id, f"Redis: buyer {buyer_id} has {has} units, the limit is {limit}")

    buyers = stock_redis().hscan_iter(f"{{o:{offer_id}}}:buyers", count=1000)
    counted = {int(buyer_id): int(value.split(":")[0]) for buyer_id, value in buyers}
    if counted != {buyer_id: has for buyer_id, has in by_buyer.items() if has}:
        yield Finding(2, offer_id, "Redis: the units of its buyers are not the sums of their reservations")


def _under_way(offer_id: int, units: dict[str, int]) -> Iterator[Finding]:
    """Nothing waits between the stores."""
    if units["waiting"]:
        yield Finding(8, offer_id, f"{units['waiting']} events wait to be written down")
    [(effects, changes, claims)] = _rows(
        """
        SELECT (SELECT count(*) FROM inventory_effect WHERE stock_id = s.id AND applied_at IS NULL),
               (SELECT count(*) FROM inventory_stockchange WHERE stock_id = s.id AND state = 'pending'),
               (SELECT count(*) FROM inventory_claim WHERE stock_id = s.id AND settled_at IS NULL)
          FROM inventory_stock s WHERE s.id = %s
        """,
        offer_id,
    )
    for count, what in ((effects, "effects"), (changes, "stock changes"), (claims, "claims")):
        if count:
            yield Finding(8, offer_id, f"{count} {what} wait for Redis")


def _drift(
    offer_id: int, rows: dict[str, tuple[Any, ...]], records: dict[str, tuple[str, int, int]]
) -> Iterator[Finding]:
    for reservation_id in records.keys() - rows.keys():
        yield Finding(8, offer_id, f"{reservation_id} is in Redis and not in PostgreSQL")
    for reservation_id in rows.keys() - records.keys():
        if rows[reservation_id][0] == "refused":  # a receipt that came too late: this Redis has never held it
            continue
        yield Finding(8, offer_id, f"{reservation_id} is in PostgreSQL and not in Redis")
    for reservation_id in rows.keys() & records.keys():
        row, record = rows[reservation_id], records[reservation_id]
        if record[0] not in _SAME[str(row[0])] or row[1:] != record[1:]:
            yield Finding(8, offer_id, f"{reservation_id} is {row} in PostgreSQL and {record} in Redis")
