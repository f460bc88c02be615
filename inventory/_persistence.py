"""The statements that Django's ORM cannot say: many rows in one round trip, and the rows that were really changed.

Everybody locks in the same order: reservations, then the units of buyers (by buyer), then the stock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection

from inventory.models import Reservation
from inventory.outcomes import Recorded
from resilience.empty import nothing_for_nothing

#: A place in the stream of an offer: ms and sequence of an event's id.
Position = tuple[int, int]


def position_of(stream_id: str) -> Position:
    at_ms, _, seq = stream_id.partition("-")
    return int(at_ms), int(seq)


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """An entry of the stream: Redis let these units become held, at its own clock's `at_ms`."""

    stream_id: str
    reservation_id: str
    buyer_id: int
    units: int
    epoch: int
    reason: str = ""

    @property
    def position(self) -> Position:
        return position_of(self.stream_id)

    @property
    def at_ms(self) -> int:
        return self.position[0]


@dataclass(frozen=True, slots=True)
class Moved:
    """Units of one reservation that were ended."""

    reservation_id: str
    offer_id: int
    buyer_id: int
    units: int


_INSERT = """
    INSERT INTO inventory_reservation (
        id, stock_id, buyer_id, units, reason, state, reserved_at, placed_at, expires_at, ended_at)
    SELECT id, %s, buyer_id, units, reason, %s, to_timestamp(at_ms / 1000.0), now(),
           now() + (SELECT hold_seconds FROM inventory_stock WHERE id = %s) * interval '1 second',
           CASE WHEN %s = 'held' THEN NULL ELSE now() END
      FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::text[], %s::bigint[])
           AS event (id, buyer_id, units, reason, at_ms)
     ORDER BY id
        ON CONFLICT (id) DO NOTHING
 RETURNING id, stock_id, buyer_id, units, reason, extract(epoch FROM expires_at)::float8
"""

_ADD_TO_BUYERS = """
    INSERT INTO inventory_buyerunits AS row (stock_id, buyer_id, units, unit_limit)
    SELECT %s, buyer_id, sum(units), (SELECT greatest(unit_limit, highest_limit) FROM inventory_stock WHERE id = %s)
      FROM unnest(%s::bigint[], %s::int[]) AS had (buyer_id, units)
     GROUP BY buyer_id ORDER BY buyer_id
        ON CONFLICT (stock_id, buyer_id) DO UPDATE
           SET units = row.units + excluded.units, unit_limit = greatest(row.unit_limit, excluded.unit_limit)
"""

_TAKE_FROM_BUYERS = """
    WITH gone AS (
        SELECT buyer_id, sum(units) AS units FROM unnest(%s::bigint[], %s::int[]) AS had (buyer_id, units)
         GROUP BY buyer_id
    ), locked AS (
        SELECT row.id, gone.units FROM inventory_buyerunits row JOIN gone USING (buyer_id)
         WHERE row.stock_id = %s ORDER BY row.buyer_id FOR UPDATE OF row
    )
    UPDATE inventory_buyerunits row SET units = greatest(0, row.units - locked.units)
      FROM locked WHERE row.id = locked.id
"""

_ADD_TO_STOCK = """
    UPDATE inventory_stock SET held = held + %s,
           high_water_ms = CASE WHEN (high_water_ms, high_water_seq) < (%s, %s) THEN %s ELSE high_water_ms END,
           high_water_seq = CASE WHEN (high_water_ms, high_water_seq) < (%s, %s) THEN %s ELSE high_water_seq END
     WHERE id = %s AND (epoch = %s OR %s)
"""

_END = """
    UPDATE inventory_reservation SET state = %s, ended_at = now()
     WHERE id = ANY(%s) AND state = 'held'
 RETURNING id, stock_id, buyer_id, units
"""


@nothing_for_nothing(of="events", returns=list)
def insert_reservations(offer_id: int, events: Sequence[HeldEvent], state: Reservation.State) -> list[Recorded]:
    """Insert what is not there yet, in the order of ids; answers the rows really inserted, so that nobody reads them
    again."""
    columns = (
        [event.reservation_id for event in events],
        _array(event.buyer_id for event in events),
        _array(event.units for event in events),
        [event.reason for event in events],
        _array(event.at_ms for event in events),
    )
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [offer_id, state, offer_id, state, *columns])
        # The moment comes as seconds, of which Python makes a datetime ten times as fast as psycopg of its own text.
        return [Recorded._make([*row, datetime.fromtimestamp(ends, UTC)]) for *row, ends in cursor.fetchall()]


def _array(numbers: Iterable[int]) -> str:
    """As PostgreSQL writes an array of whole numbers. psycopg would make it in five times as long."""
    return f"{{{','.join(map(str, numbers))}}}"


@nothing_for_nothing(of="moved")
def add_to_buyers(offer_id: int, moved: Sequence[Recorded]) -> None:
    """Raises IntegrityError when somebody would have more than the limit."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD_TO_BUYERS, [offer_id, offer_id, *_buyers_and_units(moved)])


@nothing_for_nothing(of="moved")
def take_from_buyers(offer_id: int, moved: Sequence[Moved]) -> None:
    """Never below none: a row that is wrong is for `verify` to find, and must not keep holds from ending."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_FROM_BUYERS, [*_buyers_and_units(moved), offer_id])


def _buyers_and_units(moved: Sequence[Moved | Recorded]) -> tuple[str, str]:
    return _array(row.buyer_id for row in moved), _array(row.units for row in moved)


def add_to_stock(offer_id: int, units: int, up_to: Position, epoch: int, *, any_epoch: bool) -> bool:
    """Count units as held and the stream as written down up to a position; False when the offer has another epoch.

    Raises IntegrityError when there are not so many units.
    """
    position = [*up_to, up_to[0], *up_to, up_to[1]]
    with connection.cursor() as cursor:
        cursor.execute(_ADD_TO_STOCK, [units, *position, offer_id, epoch, any_epoch])
        return bool(cursor.rowcount == 1)


@nothing_for_nothing(returns=list)
def end_held(reservation_ids: Sequence[str], state: Reservation.State) -> list[Moved]:
    """The arbiter: held -> state for those that are still held; answers these, by id."""
    with connection.cursor() as cursor:
        cursor.execute(_END, [state, list(reservation_ids)])
        return sorted((Moved(*row) for row in cursor.fetchall()), key=lambda moved: moved.reservation_id)
