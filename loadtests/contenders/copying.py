"""The baselines of the drain: the same rows by COPY, which is the fastest way into PostgreSQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from inventory.outbox import BATCH_EVENTS
from loadtests.contenders.draining import EVENTS
from loadtests.contenders.selling import open_offer, wish
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample
from loadtests.house import House
from shop.models import new_order_number

Row = tuple[Any, ...]

#: The columns of a table that is filled, in the order of its rows.
RESERVATION = "id, stock_id, buyer_id, units, reason, state, reserved_at, placed_at, expires_at, ended_at"
BUYER = "stock_id, buyer_id, units, unit_limit"
ORDER = (
    "number, reservation_id, buyer_id, offer_id, title, units, total_minor, currency, state, placed_at, pay_until,"
    " ended_at, refunded_at, late_reservation"
)

_BARE_TABLE = """
    DROP TABLE IF EXISTS bench_reservation;
    CREATE TABLE bench_reservation (LIKE inventory_reservation INCLUDING DEFAULTS)
"""
_HOLD = "UPDATE inventory_stock SET held = held + %s WHERE id = %s"


class CopyReservations:
    """The rows of the reservations alone, into a table without index or constraint: the least that can be written."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        with connection.cursor() as cursor:
            cursor.execute(_BARE_TABLE)
        watch, written = Stopwatch(), 0
        while watch.seconds < seconds:
            rows = [_reservation(1, buyer) for buyer in self._house.people(EVENTS)]
            with watch.running():
                for batch in _batches(rows):
                    with transaction.atomic():
                        _copy("bench_reservation", RESERVATION, batch)
            written += len(rows)
        return [Sample(written / watch.seconds, "events/s")]


class CopyAll:
    """Every row that the drain writes, into the real tables with all their indexes, constraints and foreign keys:
    reservation, units of the buyer and order, and the counter of the stock."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        watch, written = Stopwatch(), 0
        while watch.seconds < seconds:
            offer_id = open_offer()
            rows = [_reservation(offer_id, buyer) for buyer in self._house.people(EVENTS)]
            orders = [_order(row) for row in rows]
            with watch.running():
                for reservations, their_orders in zip(_batches(rows), _batches(orders), strict=True):
                    _write_all(offer_id, reservations, their_orders)
            written += len(rows)
        return [Sample(written / watch.seconds, "events/s")]


def _write_all(offer_id: int, reservations: Sequence[Row], orders: Sequence[Row]) -> None:
    with transaction.atomic():
        _copy("inventory_reservation", RESERVATION, reservations)
        _copy("shop_order", ORDER, orders)
        _copy("inventory_buyerunits", BUYER, ((offer_id, buyer, units, 1) for _, _, buyer, units, *_ in reservations))
        with connection.cursor() as cursor:
            cursor.execute(_HOLD, [len(reservations), offer_id])


def _copy(table: str, columns: str, rows: Iterable[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _batches(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    return (rows[start : start + BATCH_EVENTS] for start in range(0, len(rows), BATCH_EVENTS))


def _reservation(offer_id: int, buyer_id: int) -> Row:
    now = timezone.now()
    return (
        wish(offer_id, buyer_id).reservation_id,
        offer_id,
        buyer_id,
        1,
        "",
        "held",
        now,
        now,
        _in_a_while(now),
        None,
    )


def _order(reservation: Row) -> Row:
    pk, offer_id, buyer_id, units, _, _, _, now, pay_until, _ = reservation
    lamp = ("Lamp", units, 9_900 * units, "CNY")
    return (new_order_number(), pk, buyer_id, offer_id, *lamp, "awaiting_payment", now, pay_until, None, None, None)


def _in_a_while(now: datetime) -> datetime:
    return now + timedelta(minutes=15)
