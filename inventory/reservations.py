"""Holding units and ending holds.

Redis alone lets a unit become held (`reserve`). PostgreSQL alone lets it leave held (`confirm`, `release`,
`expire_due`): one conditional UPDATE decides who was first, and writes the effect for Redis in the same transaction.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import F
from django.db.models.functions import Now

from inventory import _keys, doorbell
from inventory._commit import SCRIPT_WISHES, commit
from inventory._persistence import Moved, end_held, take_from_buyers
from inventory._reading import read
from inventory.models import Effect, Reservation, Stock
from inventory.outcomes import Answer, Standing, Wish
from resilience import failpoint
from resilience.empty import nothing_for_nothing

#: Holds that one sweep ends in one transaction: short locks, and little to redo after a crash.
SWEEP_HOLDS = 500
#: Seconds for which this process leaves alone a hold that could not be ended, and how many such holds it knows: a sweep
#: comes each second, and finding them among others takes ten transactions each.
REFUSED_REST_SECONDS = 60.0
REFUSED_MAXIMUM = 5_000

#: PostgreSQL's word for a reservation -> the word its buyer's polls read.
STATUS = {
    Reservation.State.HELD: "placed",
    Reservation.State.CONFIRMED: "paid",
    Reservation.State.RELEASED: "released",
    Reservation.State.EXPIRED: "expired",
    Reservation.State.REFUSED: "refused",
}

#: Told which reservations have just ended, inside the transaction that ends them.
Ended = Callable[[list[str]], None]

logger = logging.getLogger(__name__)

#: Holds that PostgreSQL refused to end -> the moment from which they are tried again.
_resting: dict[str, float] = {}


def reserve(offer_id: int, wishes: list[Wish]) -> list[Answer]:
    """Hold units for each wish, all or none of its units, exactly once for each reservation id.

    Answers one Answer for each wish, in order; no wishes, no trip. Wishes of all threads that wait at the same moment
    share a trip. Never raises for a Redis that is away: the outcome is UNAVAILABLE when it did nothing, BUSY when the
    wish had to wait too long or behind too many and was not sent, and UNKNOWN when it was sent and no answer came in
    time, also to a second try with the same ids. Raises ResponseError when the script broke on the offer's data.
    """
    answers: list[Answer] = []
    for start in range(0, len(wishes), SCRIPT_WISHES):
        answers += commit(offer_id, wishes[start : start + SCRIPT_WISHES])
    return answers


def look_up(offer_id: int, reservation_id: str) -> Standing | None:
    """Where a reservation stands, and how many of its offer wait, from Redis; None when Redis does not know it.

    Raises InventoryUnavailable when Redis cannot be asked: then `recorded` knows what PostgreSQL has seen.
    """
    wanted = [(_keys.reservations(offer_id), [reservation_id]), (_keys.units(offer_id), ["waiting"])]
    [[record], [waiting]] = read(wanted)
    return _standing(reservation_id, record, waiting) if record else None


def _standing(reservation_id: str, record: str, waiting: str | None = None) -> Standing:
    state, buyer_id, units, *placed = record.split(":")
    order, expires_at_ms = placed or (None, None)
    return Standing(
        reservation_id,
        state,
        buyer_id=int(buyer_id),
        units=int(units),
        order=order,
        expires_at_ms=int(expires_at_ms) if expires_at_ms else None,
        waiting=int(waiting) if waiting else None,
    )


@nothing_for_nothing(returns=dict)
def of_buyer(offer_ids: list[int], buyer_id: int) -> dict[int, tuple[int, list[Standing]]]:
    """Offer id -> (units the buyer holds and owns, where each of these reservations stands), in two round trips.

    Offers of which the buyer has nothing are left out. Raises InventoryUnavailable when Redis cannot be asked.
    """
    had = read([(_keys.buyers(offer_id), [str(buyer_id)]) for offer_id in offer_ids])
    units_and_ids = {offer_id: value.split(":") for offer_id, [value] in zip(offer_ids, had, strict=True) if value}
    wanted = {offer_id: ids.split(",") for offer_id, (_, ids) in units_and_ids.items() if ids}
    records = read([(_keys.reservations(offer_id), ids) for offer_id, ids in wanted.items()])
    return {
        offer_id: (
            int(units_and_ids[offer_id][0]),
            [_standing(pk, record) for pk, record in zip(ids, its_records, strict=True) if record],
        )
        for (offer_id, ids), its_records in zip(wanted.items(), records, strict=True)
    }


def confirm(reservation_id: str) -> bool:
    """Held -> confirmed: the units are sold. False when something else ended the hold first."""
    return end([reservation_id], Reservation.State.CONFIRMED) == 1


def release(reservation_id: str) -> bool:
    """Held -> released: the units go back on sale. False when something else ended the hold first."""
    return end([reservation_id], Reservation.State.RELEASED) == 1


def expire_due(ended: Ended) -> int:
    """End up to SWEEP_HOLDS holds whose time to pay is over, and tell `ended` which. Answers how many.

    Several sweeps may run at once: each takes rows that nobody else has locked. A hold that PostgreSQL refuses to end
    holds up no other: the log names it, and it is tried again in a minute.
    """
    grace = timedelta(seconds=settings.PAYMENT_GRACE_SECONDS)
    with transaction.atomic():
        due = list(
            Reservation.objects.select_for_update(skip_locked=True)
            .filter(state=Reservation.State.HELD, expires_at__lte=Now() - grace)
            .exclude(pk__in=_still_resting())
            .order_by("expires_at")
            .values_list("pk", flat=True)[:SWEEP_HOLDS]
        )
        return _expire(due, ended)


@nothing_for_nothing(returns=int)
def _expire(due: list[str], ended: Ended) -> int:
    """All at once; when PostgreSQL refuses, two halves, until only those are left that it refuses alone."""
    try:
        with transaction.atomic():
            end(due, Reservation.State.EXPIRED)
            ended(due)
        return len(due)
    except OperationalError:
        raise  # it is away, or others are in the way: that is no fault of a hold
    except DatabaseError as error:
        if len(due) > 1:
            middle = len(due) // 2
            return _expire(due[:middle], ended) + _expire(due[middle:], ended)
        _let_rest(due[0])
        logger.error("reservation %s: its time is over, and PostgreSQL refuses to end it: %s", due[0], error)
        return 0


def _let_rest(reservation_id: str) -> None:
    if len(_resting) < REFUSED_MAXIMUM:
        _resting[reservation_id] = time.monotonic() + REFUSED_REST_SECONDS


def _still_resting() -> list[str]:
    now = time.monotonic()
    for pk in [pk for pk, until in list(_resting.items()) if until <= now]:
        _resting.pop(pk, None)
    return list(_resting)


@nothing_for_nothing(returns=int)
def end(reservation_ids: list[str], state: Reservation.State) -> int:
    """End holds in one transaction: rows, counters, effects. Answers how many were still held."""
    with transaction.atomic():
        ended = end_held(reservation_ids, state)
        for offer_id in sorted({moved.offer_id for moved in ended}):
            _move_units(offer_id, [moved for moved in ended if moved.offer_id == offer_id], state)
        failpoint.hit("end.uncommitted")
    return len(ended)


def _move_units(offer_id: int, ended: list[Moved], state: Reservation.State) -> None:
    units, sold = sum(moved.units for moved in ended), state is Reservation.State.CONFIRMED
    if not sold:
        take_from_buyers(offer_id, ended)
    Stock.objects.filter(pk=offer_id).update(held=F("held") - units, sold=F("sold") + (units if sold else 0))
    tell_redis(offer_id, [moved.reservation_id for moved in ended], Effect.Kind(STATUS[state]))


@nothing_for_nothing(of="reservation_ids")
def tell_redis(offer_id: int, reservation_ids: list[str], kind: Effect.Kind) -> None:
    """Write the effects of ended holds, in the caller's transaction, and ring when it commits."""
    epoch = Stock.objects.values_list("epoch", flat=True).get(pk=offer_id)
    Effect.objects.bulk_create(
        (Effect(reservation_id=pk, stock_id=offer_id, kind=kind, epoch=epoch) for pk in reservation_ids),
        ignore_conflicts=True,  # told before, by a drain that crashed after its commit
    )
    transaction.on_commit(lambda: doorbell.ring(doorbell.SETTLE))
