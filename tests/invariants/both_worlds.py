"""One offer in both worlds: the real one and its model, the same wishes for both, and how the two are compared."""

from collections.abc import Sequence
from typing import Any

import redis
from django.db import IntegrityError, connection

from inventory import _keys, stock
from inventory.models import Stock
from inventory.outcomes import Recorded
from inventory.outcomes import Wish as RealWish
from inventory.stock import Shelf
from resilience.clock import now_ms
from tests.invariants.model import NOBODY, Hold, OfferModel, Wish, live

HOUR_MS = 3_600_000
#: Where Redis's clock stands: opens_at and closes_at, in ms from now.
WINDOWS = {"before": (HOUR_MS, 2 * HOUR_MS), "open": (-HOUR_MS, HOUR_MS), "over": (-HOUR_MS, -1)}
#: How the wish for a reservation that is known already may differ from the first one.
AGAIN = ["honest", "late", "other buyer", "other units"]
KINDS = ["honest"] * 12 + [*AGAIN, "bad units", "bad buyer", "bad name", "bad reason"]
#: What Lua's own tonumber, or a pattern, would have taken for a number.
NO_NUMBERS = ["0", "-1", "nan", "1e3", "0x1", " 1", "1.0", "", "1" * 16, "x", "%d", "7:1"]
#: The numbers of reservations end here.
NAMES = 48

#: A reservation's number, a kind of wish for it, and what stands where a number should.
Drawn = tuple[int, str, str]


def place_orders(held: Sequence[Recorded]) -> dict[str, str]:
    """An order book that knows everybody but NOBODY."""
    if any(reservation.buyer_id == NOBODY for reservation in held):
        raise IntegrityError("no such buyer")
    return {reservation.pk: f"N{reservation.pk}" for reservation in held}


class Offer:
    """An offer of so many units, open now."""

    def __init__(self, client: redis.Redis, quantity: int, limit: int) -> None:
        self.client = client
        self.pk: int = Stock.objects.create(quantity=quantity, unit_limit=limit, hold_seconds=900).pk
        self.model = OfferModel(quantity, limit)
        self.put("open", "open")

    def put(self, state: str, window: str) -> None:
        opens_in_ms, closes_in_ms = WINDOWS[window]
        stock.put_on_shelf(self.pk, Shelf(state, now_ms() + opens_in_ms, now_ms() + closes_in_ms))

    def name(self, number: int) -> str:
        return f"{self.pk}-r{number}"

    def pick(self, number: int) -> str:
        """The name of some reservation, in whatever state; now and then of none that there is."""
        known = sorted(self.model.rows.keys() | self.model.receipts.keys())
        return known[number % len(known)] if known and number < NAMES - 8 else self.name(number)

    # --- wishes

    def wishes(self, batch: Sequence[Drawn]) -> tuple[list[RealWish], list[Wish]]:
        """The same batch for both worlds."""
        known = set(self.model.holds)
        both = []
        for number, kind, junk in batch:
            both.append(self._wish(number, kind, junk, self.name(number) in known))
            known.add(self.name(number))
        return [real for real, _ in both], [spelled for _, spelled in both]

    def _wish(self, number: int, kind: str, junk: str, known: bool) -> tuple[RealWish, Wish]:
        """Only who was given the ticket of a reservation can be the first to ask for it."""
        name, (buyer, units) = self.name(number), self._ticket(number)
        asked: list[Any] = [name, buyer, units, ""]
        match kind:
            case "late":
                asked[3] = "late"
            case "other buyer" if known:
                asked[1] = buyer % NOBODY + 1
            case "other units" if known:
                asked[2] = units + 1
            case "bad units":
                asked[2] = junk
            case "bad buyer":
                asked[1] = junk
            case "bad name":
                asked[0] = "x" * 49 if junk else ""
            case "bad reason":
                asked[3] = "because"
        return RealWish(*asked), Wish(name, asked[1], asked[2], asked[3] == "late", not kind.startswith("bad"))

    def _ticket(self, number: int) -> tuple[int, int]:
        """Who holds the ticket of this number, and the units that are wished for with it."""
        if receipt := self.model.receipts.get(self.name(number)):
            return receipt.hold.buyer, receipt.hold.units
        return 1 + number % NOBODY, (1, 1, 2, 1, 3)[number % 5]

    # --- comparing

    def compare(self) -> None:
        """Every key, every row and every counter is what the model says."""
        assert self._redis() == self._expected_in_redis()
        assert self._postgresql() == self._expected_in_postgresql()

    def _redis(self) -> dict[str, Any]:
        step = self.client.pipeline(transaction=False)
        for key in (_keys.units, _keys.reservations, _keys.buyers):
            step.hgetall(key(self.pk))
        step.xlen(_keys.events(self.pk))
        units, records, buyers, events = step.execute()

        names = ["quantity", "available", "held", "sold", "taken", "epoch", "waiting"]
        return {
            "units": {name: int(units[name]) for name in names if name in units},
            "holds": {name: _hold(*record.split(":")[:3]) for name, record in records.items()},
            "buyers": {int(buyer): had.split(":") for buyer, had in _in_order(buyers).items()},
            "events": events,
        }

    def _expected_in_redis(self) -> dict[str, Any]:
        model, holds = self.model, self.model.holds
        sold = sum(hold.units for hold in holds.values() if hold.state == "paid")
        units = {
            "quantity": model.quantity,
            "available": model.available,
            "held": live(holds) - sold,
            "sold": sold,
            "taken": sum(hold.units for hold in holds.values()),
            "epoch": model.shelf_epoch,
            "waiting": model.waiting,
        }
        owners = {hold.buyer for hold in holds.values() if live({"": hold})}
        return {
            "units": units if model.quantity is not None else {},
            "holds": holds,
            "buyers": {buyer: [str(live(holds, buyer)), _ids(holds, buyer)] for buyer in owners},
            "events": len(model.events),
        }

    def _postgresql(self) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(_ALL_ROWS, [self.pk])
            *numbers, rows, buyers, effects = cursor.fetchone()
        return [*numbers, set(rows or ()), set(buyers or ()), set(effects or ())]

    def _expected_in_postgresql(self) -> list[Any]:
        model, rows = self.model, self.model.rows
        sold = sum(row.units for row in rows.values() if row.state == "confirmed")
        owners = {row.buyer for row in rows.values() if live({"": row})}
        return [
            *(model.recorded_quantity, live(rows) - sold, sold, model.limit, model.epoch, model.recovering),
            {f"{name}:{row.buyer}:{row.units}:{row.state}" for name, row in rows.items()},
            {f"{buyer}:{live(rows, buyer)}" for buyer in owners},
            {f"{name}:{told.word}:{told.epoch}:{int(told.applied)}" for name, told in model.effects.items()},
        ]


def _hold(state: str, buyer: str, units: str) -> Hold:
    return Hold(int(buyer), int(units), state)


def _in_order(buyers: dict[str, str]) -> dict[str, str]:
    """The reservations of a buyer, in the order of their names."""
    parted = {buyer: had.partition(":") for buyer, had in buyers.items()}
    return {buyer: f"{units}:{','.join(sorted(ids.split(',')))}" for buyer, (units, _, ids) in parted.items()}


def _ids(holds: dict[str, Hold], buyer: int) -> str:
    return ",".join(sorted(name for name, hold in holds.items() if live({name: hold}, buyer)))


_ALL_ROWS = """
    SELECT quantity, held, sold, unit_limit, epoch, recovering_until IS NOT NULL,
           (SELECT array_agg(concat_ws(':', id, buyer_id, units, state))
              FROM inventory_reservation WHERE stock_id = s.id),
           (SELECT array_agg(concat_ws(':', buyer_id, units))
              FROM inventory_buyerunits WHERE stock_id = s.id AND units > 0),
           (SELECT array_agg(concat_ws(':', reservation_id, kind, epoch, (applied_at IS NOT NULL)::int))
              FROM inventory_effect WHERE stock_id = s.id)
      FROM inventory_stock s WHERE id = %s
"""
