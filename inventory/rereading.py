"""When PostgreSQL went back in time: a standby that lagged took over, or a backup. Redis tells what was forgotten.

What Redis was told, PostgreSQL had committed: so each end that Redis knows of is an end, and each event that the group
has acknowledged is a reservation. No drain reads acknowledged events again, and none writes down anything else before
this is done (`outbox.has_lost_commits`). Redis sells on meanwhile; it counts for itself.

    1. holds that have ended in Redis end in PostgreSQL, so that their units are free for whoever got them since;
    2. restocks and losses that only Redis remembers are entered in the ledger;
    3. whatever the stream still keeps is read again, and written down as what it has become since.

Each step adds only what is missing, so all of it may be repeated, and done by several at once. Events that were trimmed
cannot be read again: they are counted, from the records of Redis.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Greatest

from inventory import _keys, outbox, reservations
from inventory._connection import asking_redis, stock_redis
from inventory._persistence import HeldEvent, add_to_buyers, insert_reservations, position_of
from inventory.models import Reservation, Stock, StockChange
from inventory.outbox import BATCH_EVENTS, Entry, PlaceOrders
from inventory.stock import ShelfLost
from resilience.empty import nothing_for_nothing

#: Redis's word for a reservation that has ended -> PostgreSQL's. Not for `refused`, which never was held there.
_ENDED = {word: state for state, word in reservations.STATUS.items() if word in ("paid", "released", "expired")}

#: Told which reservations have ended in which state, inside the transaction that ends them again.
Follow = Callable[[Reservation.State, list[str]], None]

Item = TypeVar("Item")

logger = logging.getLogger(__name__)
#: For what moves units and must not be left out of any log.
audit_logger = logging.getLogger("audit.inventory")


@dataclass(frozen=True, slots=True)
class Reread:
    """What was told again of an offer, and what could not be."""

    offer_id: int
    read: int
    written: int
    ended: int
    changes: int
    #: Reservations that Redis knows and nobody can write down from their events, and their units.
    missing: int
    missing_units: int
    #: Units that Redis ever let become held.
    taken: int

    def __str__(self) -> str:
        told = (
            f"offer {self.offer_id}: {self.read} events read again, {self.written} reservations, {self.ended} ends and "
            f"{self.changes} stock changes written down again"
        )
        if not self.missing:
            return f"{told}; nothing is missing"
        return (
            f"{told}; MISSING: {self.missing} reservations, {self.missing_units} of {self.taken} units ever held, "
            "whose events were trimmed. `reconcile --apply` writes down what is still held; `verify` names the rest"
        )


def watch(place_orders: PlaceOrders, follow: Follow) -> None:
    """Look at every offer on the shelf once, and tell PostgreSQL what it has forgotten.

    Raises InventoryUnavailable or AnswerLost when Redis is away. What PostgreSQL refuses holds up that offer alone,
    with a line in the log.
    """
    on_shelf = Stock.objects.filter(archived=False).exclude(shelf_state="")
    for offer_id in on_shelf.values_list("pk", flat=True):
        if outbox.has_lost_commits(offer_id):
            try:
                audit_logger.error("PostgreSQL has lost commits: %s", reread(offer_id, place_orders, follow))
            except IntegrityError:
                logger.exception("offer %s: PostgreSQL refuses what it has forgotten; a person has to look", offer_id)


def reread(offer_id: int, place_orders: PlaceOrders, follow: Follow) -> Reread:
    """Tell PostgreSQL what Redis still knows of an offer; again, it changes nothing.

    Raises ShelfLost when Redis does not know the offer's stream, InventoryUnavailable or AnswerLost when it is away,
    and IntegrityError when PostgreSQL refuses what was paid for.
    """
    with asking_redis():
        last = _last_event(offer_id)
        _adopt(offer_id)
        ended = _end_again(offer_id, follow)
        changes = _enter_changes(offer_id)
        read, written = _read_again(offer_id, last, place_orders, follow)
        outbox.pass_by(offer_id, position_of(last))
        missing = _missing(offer_id, last)
        taken = int(stock_redis().hget(_keys.units(offer_id), "taken") or 0)
    return Reread(offer_id, read, written, ended, changes, len(missing), sum(missing.values()), taken)


def _last_event(offer_id: int) -> str:
    if not stock_redis().exists(_keys.events(offer_id)):
        raise ShelfLost(f"offer {offer_id} has no stream: there is nothing to read again")
    facts: Any = stock_redis().xinfo_stream(_keys.events(offer_id))
    return str(facts["last-generated-id"])


def _adopt(offer_id: int) -> None:
    """A filling of Redis, and a limit, that PostgreSQL has forgotten: what happened under them is not to be refused."""
    epoch, limit = stock_redis().hmget(_keys.units(offer_id), "epoch", "limit")
    if epoch and limit:
        Stock.objects.filter(pk=offer_id).update(
            epoch=Greatest("epoch", int(epoch)), highest_limit=Greatest("highest_limit", int(limit))
        )


def _end_again(offer_id: int, follow: Follow) -> int:
    held = Reservation.objects.filter(stock_id=offer_id, state=Reservation.State.HELD).values_list("pk", flat=True)
    ended = 0
    for batch in _batches(list(held)):
        for state, ids in _by_state(_words(offer_id, batch)).items():
            with transaction.atomic():
                ended += reservations.end(ids, state)
                follow(state, ids)
    return ended


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH_EVENTS)):
        yield batch


@nothing_for_nothing(of="ids", returns=dict)
def _words(offer_id: int, ids: Sequence[str]) -> dict[str, str]:
    """Redis's word for each of these reservations that it knows."""
    records = stock_redis().hmget(_keys.reservations(offer_id), ids)
    return {pk: str(record).partition(":")[0] for pk, record in zip(ids, records, strict=True) if record}


def _by_state(words: dict[str, str]) -> dict[Reservation.State, list[str]]:
    ended = defaultdict[Reservation.State, list[str]](list)
    for pk, word in words.items():
        if word in _ENDED:
            ended[_ENDED[word]].append(pk)
    return ended


def _enter_changes(offer_id: int) -> int:
    """What came first: units that went may have gone only because others had come."""
    made: Any = stock_redis().hgetall(_keys.changes(offer_id))
    moved = {change_id: int(units) for change_id, units in made.items() if int(units)}
    known = {str(pk) for pk in StockChange.objects.filter(stock_id=offer_id).values_list("pk", flat=True)}
    lost = sorted(moved.keys() - known, key=lambda pk: -moved[pk])
    return sum(_enter(offer_id, pk, moved[pk]) for pk in lost)


def _enter(offer_id: int, change_id: str, units: int) -> bool:
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        told = {"asked": units, "moved": units, "reason": "read again from Redis", "by": "", "epoch": stock.epoch}
        _, new = StockChange.objects.get_or_create(
            id=change_id, defaults={"stock": stock, "state": StockChange.State.DONE, **told}
        )
        if new:
            Stock.objects.filter(pk=offer_id).update(quantity=F("quantity") + units)
    return new


def _read_again(offer_id: int, last: str, place_orders: PlaceOrders, follow: Follow) -> tuple[int, int]:
    """By a way of its own and not as the group: so nothing that is acknowledged becomes open again, and a crash leaves
    nothing behind. Answers how many events were read, and how many reservations were missing."""
    read, written, since = 0, 0, "-"
    while entries := _entries(offer_id, since, last, BATCH_EVENTS):
        written += _write_down(offer_id, outbox.understood(offer_id, entries), place_orders, follow)
        read, since = read + len(entries), f"({entries[-1][0]}"
    return read, written


def _entries(offer_id: int, first: str, last: str, most: int | None = None) -> list[Entry]:
    answer: Any = stock_redis().xrange(_keys.events(offer_id), first, last, count=most)
    return list(answer)


def _write_down(offer_id: int, events: list[HeldEvent], place_orders: PlaceOrders, follow: Follow) -> int:
    words = _words(offer_id, [event.reservation_id for event in events])
    written = 0
    for state, ids in _by_state(words).items():
        ended = [event for event in events if event.reservation_id in ids]
        written += _insert_ended(offer_id, state, ended, place_orders, follow)
    refused = [event for event in events if words.get(event.reservation_id) == "refused"]
    written += len(insert_reservations(offer_id, refused, Reservation.State.REFUSED))
    others = [event for event in events if words.get(event.reservation_id) in (None, "held", "placed")]
    return written + outbox.write_down(offer_id, others, place_orders, any_epoch=True)


def _insert_ended(
    offer_id: int, state: Reservation.State, events: list[HeldEvent], place_orders: PlaceOrders, follow: Follow
) -> int:
    """As ended and never as held: somebody else may have the units by now. Answers how many were missing."""
    with transaction.atomic():
        inserted = insert_reservations(offer_id, events, state)
        if inserted:
            place_orders(inserted)
            follow(state, [row.pk for row in inserted])
        if state is Reservation.State.CONFIRMED:
            add_to_buyers(offer_id, inserted)
            Stock.objects.filter(pk=offer_id).update(sold=F("sold") + sum(row.units for row in inserted))
    return len(inserted)


def _missing(offer_id: int, last: str) -> dict[str, int]:
    """Reservation id -> units, of those in Redis that are neither in PostgreSQL nor on their way to it."""
    missing: dict[str, int] = {}
    scanned: Iterable[tuple[str, str]] = stock_redis().hscan_iter(_keys.reservations(offer_id), count=BATCH_EVENTS)
    for records in _batches(scanned):
        units = {pk: int(record.split(":")[2]) for pk, record in records}
        known = Reservation.objects.filter(pk__in=list(units)).values_list("pk", flat=True)
        missing |= {pk: units[pk] for pk in units.keys() - set(known)}
    if missing:
        for _, fields in _entries(offer_id, f"({last}", "+"):
            missing.pop(fields.get("reservation", ""), None)
    return missing
