"""Redis against PostgreSQL: how far apart they are, why, and what may be repaired without a person.

An audit reads the counters of Redis, then its records, then the counters again. When nothing was sold meanwhile and no
event waits, all of it belongs to one moment of the stream, and PostgreSQL has written down the same moment.

Repairs either resend what is idempotent or sell less. What puts units on sale that Redis does not count as free needs
two equal audits, AUDITS_APART_SECONDS apart.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inventory import _keys, effects, outbox
from inventory._connection import asking_redis, stock_redis
from inventory._scripts import Script
from inventory.models import Effect, Reservation, Stock
from inventory.outbox import PlaceOrders
from inventory.reservations import STATUS

#: Seconds between the two audits that must agree before units are added to what is on sale.
AUDITS_APART_SECONDS = 30
#: Effects sent again in one call.
EFFECTS_AT_ONCE = 200

_adjust = Script("adjust.lua")

#: For what moves units and must not be left out of any log.
audit_logger = logging.getLogger("audit.inventory")


@dataclass(frozen=True, slots=True)
class Counters:
    """Redis's counters of an offer, as they were read or as they should be."""

    available: int
    held: int
    sold: int
    taken: int

    def __str__(self) -> str:
        return f"{self.available} available, {self.held} held, {self.sold} sold"


@dataclass(frozen=True, slots=True)
class Audit:
    """Where an offer differs at one moment, by cause."""

    epoch: int
    counted: Counters
    #: What the records of Redis add up to.
    should_be: Counters
    #: Held in Redis and unknown to PostgreSQL, with no event on its way: its entry was lost.
    unrecorded: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Ended in PostgreSQL and still held in Redis, with no effect on its way: the effect was lost.
    unsettled: dict[str, Effect.Kind] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return self.counted == self.should_be and not self.unrecorded and not self.unsettled

    def __str__(self) -> str:
        if self.clean:
            return f"no drift: {self.counted}"
        found = [f"counters say {self.counted}; records say {self.should_be}"] * (self.counted != self.should_be)
        found += [f"{len(self.unrecorded)} holds whose event was lost"] * bool(self.unrecorded)
        found += [f"{len(self.unsettled)} ends whose effect was lost"] * bool(self.unsettled)
        return "; ".join(found)


class UnderWay(Exception):
    """Something was sold or is on its way between the stores: there is no moment to compare now."""


def audit(offer_id: int) -> Audit:
    """Compare the stores at one moment.

    Raises UnderWay when there is none just now, InventoryUnavailable when Redis cannot be asked.
    """
    stock = Stock.objects.get(pk=offer_id)
    with asking_redis():
        before = _units(offer_id)
        records = {
            pk: _record(value) for pk, value in stock_redis().hscan_iter(_keys.reservations(offer_id), count=1000)
        }
        after = _units(offer_id)
    if before != after or int(before.get("waiting", 0)) or str(stock.epoch) != before.get("epoch"):
        raise UnderWay(f"offer {offer_id} is selling, recovering or still being written down")
    if stock.effects.filter(applied_at=None).exists() or stock.changes.filter(state="pending").exists():
        raise UnderWay(f"offer {offer_id} has effects or changes on their way to Redis")

    rows = dict(stock.reservations.values_list("pk", "state"))
    counted = Counters(*(int(before[name]) for name in ("available", "held", "sold", "taken")))
    return Audit(
        epoch=stock.epoch,
        counted=counted,
        should_be=_added_up(int(before["quantity"]), counted, records),
        unrecorded={pk: record[1:] for pk, record in records.items() if _is_held(record) and pk not in rows},
        unsettled={
            pk: Effect.Kind(STATUS[Reservation.State(rows[pk])])
            for pk, record in records.items()
            if _is_held(record) and rows.get(pk, "held") != "held"
        },
    )


def _units(offer_id: int) -> dict[str, str]:
    found: Any = stock_redis().hgetall(_keys.units(offer_id))
    if "available" not in found:
        raise UnderWay(f"Redis does not know offer {offer_id}: a recovery fills it")
    found.pop("rang_at_ms", None)
    return dict(found)


def _record(value: str) -> tuple[str, int, int]:
    state, buyer_id, units = value.split(":")[:3]
    return state, int(buyer_id), int(units)


def _is_held(record: tuple[str, int, int]) -> bool:
    return record[0] in ("held", "placed")


def _added_up(quantity: int, counted: Counters, records: dict[str, tuple[str, int, int]]) -> Counters:
    units = Counter[str]()
    for state, _, its_units in records.values():
        units[state] += its_units
    held, sold = units["held"] + units["placed"], units["paid"]
    return Counters(available=quantity - held - sold, held=held, sold=sold, taken=counted.taken)


def repair(offer_id: int, place_orders: PlaceOrders, *, wait: Callable[[float], None] = time.sleep) -> str:
    """Record what waits, resend what was lost, and correct the counters; answers what that came to.

    Raises UnderWay when there is no moment to compare, InventoryUnavailable or AnswerLost when Redis is away.
    """
    recorded = outbox.drain(offer_id, place_orders) if outbox.waiting_events([offer_id])[offer_id] else 0
    effects.apply_pending()
    found = audit(offer_id)
    recorded += _emit_again(offer_id, found, place_orders)
    settled = _settle_again(offer_id, found)
    adjusted = _correct(offer_id, wait)
    done = f"{recorded} events recorded, {settled} lost effects applied, counters {adjusted}"
    if settled or adjusted != "right":
        audit_logger.error("offer %s was repaired: %s; it had %s", offer_id, done, found)
    return done


def _emit_again(offer_id: int, found: Audit, place_orders: PlaceOrders) -> int:
    """Put the lost events back into the stream; recording a hold twice changes nothing."""
    if not found.unrecorded:
        return 0
    step = stock_redis().pipeline(transaction=True)
    for reservation_id, (buyer_id, units) in sorted(found.unrecorded.items()):
        fields: Any = {"type": "held", "reservation": reservation_id, "buyer": buyer_id, "units": units}
        step.xadd(_keys.events(offer_id), fields | {"epoch": found.epoch, "reason": ""})
    step.hincrby(_keys.units(offer_id), "waiting", len(found.unrecorded))
    with asking_redis():
        step.execute()
    return outbox.drain(offer_id, place_orders)


def _settle_again(offer_id: int, found: Audit) -> int:
    lost = sorted(found.unsettled.items())
    settled = 0
    for start in range(0, len(lost), EFFECTS_AT_ONCE):
        batch = [(pk, str(kind), found.epoch) for pk, kind in lost[start : start + EFFECTS_AT_ONCE]]
        settled += effects.settle(offer_id, batch).count("SETTLED")
    return settled


def _correct(offer_id: int, wait: Callable[[float], None]) -> str:
    """Make the counters the sums of the records. More for sale only when a second audit finds the same."""
    found = audit(offer_id)
    if found.counted == found.should_be:
        return "right"
    if found.should_be.available > found.counted.available:
        wait(AUDITS_APART_SECONDS)
        if audit(offer_id) != found:
            return "wrong, and moving: look again"
    counted, right = found.counted, found.should_be
    word = _adjust(
        [_keys.units(offer_id)],
        [counted.available, counted.held, counted.sold, counted.taken, right.available, right.held, right.sold],
    )
    return "corrected" if word == "ADJUSTED" else "wrong, and moving: look again"
