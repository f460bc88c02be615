"""The statements that Django's ORM cannot say: many rows in one round trip, and the rows that were really changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from inventory.models import Reservation


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """An entry of the stream: Redis let these units become held, at its own clock's `at_ms`."""

    stream_id: str
    reservation_id: str
    buyer_id: int
    units: int
    epoch: int

    @property
    def at_ms(self) -> int:
        return int(self.stream_id.partition("-")[0])


_INSERT = """
    INSERT INTO inventory_reservation (
        id, stock_id, buyer_id, units, state, reserved_at, placed_at, expires_at, ended_at)
    SELECT id, %s, buyer_id, units, %s, to_timestamp(at_ms / 1000.0), now(),
           now() + (SELECT hold_seconds FROM inventory_stock WHERE id = %s) * interval '1 second',
           CASE WHEN %s = 'held' THEN NULL ELSE now() END
      FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::bigint[]) AS event (id, buyer_id, units, at_ms)
     ORDER BY id
        ON CONFLICT (id) DO NOTHING
 RETURNING id, units
"""

_END = """
    UPDATE inventory_reservation SET state = %s, ended_at = now()
     WHERE id = ANY(%s) AND state = 'held'
 RETURNING id, stock_id, units
"""


def insert_reservations(offer_id: int, events: Sequence[HeldEvent], state: Reservation.State) -> list[tuple[str, int]]:
    """Insert what is not there yet, in the order of ids; answers (id, units) of the rows really inserted."""
    columns = ([e.reservation_id for e in events], [e.buyer_id for e in events], [e.units for e in events])
    times = [e.at_ms for e in events]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [offer_id, state, offer_id, state, *columns, times])
        return list(cursor.fetchall())


def end_held(reservation_ids: Sequence[str], state: Reservation.State) -> list[tuple[str, int, int]]:
    """The arbiter: held -> state for those that are still held; answers (id, offer id, units) of these."""
    if not reservation_ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_END, [state, list(reservation_ids)])
        return sorted(cursor.fetchall())
