"""Writing down in PostgreSQL what Redis let happen: the drain of the events stream.

For each batch, in this order: one transaction inserts reservations and orders and moves the counters; then the statuses
go where the polls read them; then the batch is acknowledged. A crash between any two steps repeats the batch, and a
repeated batch inserts nothing, moves nothing and writes the same statuses again.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from billiard.process import current_process  # Celery's pool numbers the processes that it forks
from django.conf import settings
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError, transaction
from redis import Redis

from inventory import _keys
from inventory._connection import asking_redis, stock_redis
from inventory._persistence import (
    HeldEvent,
    Position,
    add_to_buyers,
    add_to_stock,
    insert_reservations,
    position_of,
)
from inventory._scripts import Script
from inventory.effects import settle
from inventory.models import DeadEntry, Effect, Reservation, Stock
from inventory.outcomes import AnswerLost, InventoryUnavailable, Recorded
from inventory.reservations import tell_redis
from resilience import failpoint, quiet_logging
from resilience.empty import nothing_for_nothing
from resilience.log_lines import labelled, labels

#: Events a worker claims at once: 500 keeps one INSERT near 6 ms and leaves little to redo after a crash.
BATCH_EVENTS = 500

_record = Script("record.lua")
_acknowledge = Script("acknowledge.lua")
_acknowledged = Script("acknowledged.lua")
_trim = Script("trim.lua")

#: Makes the orders of held reservations that have none yet, inside the drain's transaction; answers
#: reservation id -> order number for each reservation it was given.
PlaceOrders = Callable[[Sequence[Recorded]], dict[str, str]]

#: What the polls of reservations shall read: reservation id -> order number, and the end of the time to pay in ms.
Statuses = dict[str, tuple[str, int]]

Entry = tuple[str, dict[str, str]]

logger = logging.getLogger(__name__)


class LostCommits(Exception):
    """PostgreSQL has forgotten events that it acknowledged: only `rereading` may write down what is next."""


class OtherEpoch(Exception):
    """The events belong to another filling of Redis than the one that PostgreSQL counts on: only a recovery may read
    them."""


#: Faults of the world around us. No event is to blame for one, and none is given up because of one.
AWAY = (OperationalError, InterfaceError, InternalError, InventoryUnavailable, AnswerLost, OtherEpoch, LostCommits)


def consumer_name() -> str:
    """Stable over restarts of a worker slot, so that it finds again what it had claimed before it died."""
    slot = os.environ.get("WORKER_SLOT") or str(getattr(current_process(), "index", 0))
    return f"{socket.gethostname()}:{slot}"


def drain_all(place_orders: PlaceOrders) -> int:
    """Record the waiting events of every offer on the shelf; answers how many events.

    Raises what `drain` raises, after all others had their turn: one offer that cannot be read holds up nobody else.
    """
    offers = list(Stock.objects.filter(archived=False, recovering_until=None).values_list("pk", flat=True))
    recorded, trouble = 0, None
    for offer_id in [pk for pk, waiting in waiting_events(offers).items() if waiting]:
        try:
            recorded += drain(offer_id, place_orders)
        except AWAY as error:
            trouble = error
    if trouble:
        raise trouble
    return recorded


@nothing_for_nothing(returns=dict)
def waiting_events(offer_ids: Sequence[int]) -> dict[int, int]:
    """How many events of each offer PostgreSQL has yet to hear of."""
    pipeline = stock_redis().pipeline(transaction=False)
    for offer_id in offer_ids:
        pipeline.hget(_keys.units(offer_id), "waiting")
    with asking_redis():
        counts = pipeline.execute()
    return {offer_id: max(0, int(count or 0)) for offer_id, count in zip(offer_ids, counts, strict=True)}


def drain(offer_id: int, place_orders: PlaceOrders, *, consumer: str | None = None, recovering: bool = False) -> int:
    """Record the waiting events of one offer; answers how many. Safe to run in parallel and to kill at any step.

    `recovering` also takes events of other epochs, and at once what other consumers had begun. Raises
    InventoryUnavailable or django.db.OperationalError when a side is away, OtherEpoch and LostCommits; what was not
    acknowledged comes again.
    """
    if not recovering:
        refuse_if_commits_are_lost(offer_id)
    consumer = consumer or consumer_name()
    recorded = 0
    with asking_redis():
        while some := _drain_once(offer_id, place_orders, consumer, recovering=recovering):
            recorded += some
            if not recovering:  # what others leave while this one reads is for the next drain
                break
    return recorded


def _drain_once(offer_id: int, place_orders: PlaceOrders, consumer: str, *, recovering: bool) -> int:
    recorded = 0
    for batch in _batches(offer_id, consumer, 0 if recovering else settings.CLAIM_AFTER_SECONDS * 1000):
        failpoint.hit("drain.read")
        _record_batch(offer_id, batch, place_orders, any_epoch=recovering)
        recorded += len(batch)
    return recorded


def refuse_if_commits_are_lost(offer_id: int) -> None:
    """Raises LostCommits when `has_lost_commits`. What is written down next would hide what is missing."""
    if has_lost_commits(offer_id):
        raise LostCommits(f"offer {offer_id}: PostgreSQL has forgotten what it acknowledged; `reread` tells it again")


def has_lost_commits(offer_id: int) -> bool:
    """True when PostgreSQL has recorded or sold less than it once said: a standby that lagged took over, or it was
    restored from a backup. Raises InventoryUnavailable when Redis cannot be asked."""
    # Redis is asked first: whatever it has heard by then was committed before PostgreSQL is asked.
    acknowledged, sold_before = _heard(offer_id)
    *high_water, sold = Stock.objects.values_list("high_water_ms", "high_water_seq", "sold").get(pk=offer_id)
    return tuple(high_water) < acknowledged or sold < sold_before


def _heard(offer_id: int) -> tuple[Position, int]:
    """What Redis has from PostgreSQL: an event up to which all were written down, and units sold."""
    try:
        with asking_redis():
            event_id, sold = _acknowledged([_keys.units(offer_id), _keys.events(offer_id)], [])
            return position_of(event_id), int(sold)
    except AnswerLost as lost:  # a question changes nothing: it was simply not answered
        raise InventoryUnavailable(str(lost)) from lost


def _batches(offer_id: int, consumer: str, claim_after_ms: int) -> Iterator[list[Entry]]:
    """What this consumer had before it died, then what the dead have left, then what is new; each until there is no
    more of it. A batch has to be acknowledged before the next is asked for: it would come again."""
    client, stream = stock_redis(), _keys.events(offer_id)
    for ask in (
        partial(_read, client, stream, consumer, "0"),
        partial(_claim_from_the_dead, client, stream, consumer, claim_after_ms),
        partial(_read, client, stream, consumer, ">"),
    ):
        while batch := ask():
            yield batch


def _read(client: Redis, stream: str, consumer: str, since: str) -> list[Entry]:
    answer: Any = client.xreadgroup(_keys.GROUP, consumer, {stream: since}, count=BATCH_EVENTS)
    if isinstance(answer, dict):  # RESP3 answers stream -> [entries]
        return [entry for batches in answer.values() for batch in batches for entry in batch]
    return [entry for _, entries in answer or [] for entry in entries]


def _claim_from_the_dead(client: Redis, stream: str, consumer: str, claim_after_ms: int) -> list[Entry]:
    answer: Any = client.xautoclaim(stream, _keys.GROUP, consumer, claim_after_ms, count=BATCH_EVENTS)
    return list(answer[1])


def _record_batch(offer_id: int, entries: list[Entry], place_orders: PlaceOrders, *, any_epoch: bool) -> None:
    write_down(offer_id, understood(offer_id, entries), place_orders, any_epoch=any_epoch)
    _acknowledge([_keys.units(offer_id), _keys.events(offer_id)], [stream_id for stream_id, _ in entries])
    failpoint.hit("drain.acknowledged")


def write_down(offer_id: int, events: list[HeldEvent], place_orders: PlaceOrders, *, any_epoch: bool) -> int:
    """Commit, then tell the polls; answers how many reservations were new. All that a drain does with a batch, except
    to acknowledge it."""
    statuses = commit(offer_id, events, place_orders, any_epoch=any_epoch)
    failpoint.hit("drain.committed")
    _tell_of(events, statuses)
    others = [event.reservation_id for event in events if event.reservation_id not in statuses]
    _write_statuses(offer_id, statuses | _recorded_before(others, place_orders))
    _release_refused(offer_id, [event for event in events if event.reservation_id in others])
    failpoint.hit("drain.told")
    return len(statuses)


def _tell_of(events: list[HeldEvent], recorded: Statuses) -> None:
    """A line for each, on behalf of its reservation and buyer. The event does not carry the id of the click's request:
    that would cost Redis 10 % of a reservation's time and 60 % of an event's memory. The click's line has both ids."""
    if not quiet_logging.may_write(logger, logging.INFO):
        return
    for event in events:
        if status := recorded.get(event.reservation_id):
            with labelled(**{**labels(), "reservation": event.reservation_id, "buyer": event.buyer_id}):
                logger.info("written down as order %s", status[0])


def understood(offer_id: int, entries: list[Entry]) -> list[HeldEvent]:
    """The entries that make sense; the others are kept as dead events, for a person."""
    events = []
    for stream_id, fields in entries:
        try:
            events.append(event_of(offer_id, stream_id, fields or {}))
        except (KeyError, ValueError, TypeError) as error:
            _bury(offer_id, stream_id, fields or {}, error)
    return events


def event_of(offer_id: int, stream_id: str, fields: dict[str, str]) -> HeldEvent:
    """The event that an entry spells. Raises KeyError or ValueError when it makes no sense."""
    if fields["type"] != "held":
        raise ValueError(f"no such type: {fields['type']}")
    if not fields["reservation"].startswith(f"{offer_id}-"):
        raise ValueError(f"a reservation of another offer: {fields['reservation']}")
    event = HeldEvent(
        stream_id,
        fields["reservation"],
        int(fields["buyer"]),
        int(fields["units"]),
        int(fields["epoch"]),
        fields.get("reason", ""),
    )
    if event.units < 1 or event.buyer_id < 1 or len(event.reservation_id) > 48 or event.reason not in ("", "late"):
        raise ValueError("units, buyer, reservation or reason out of range")
    return event


def _bury(offer_id: int, stream_id: str, payload: dict[str, str], error: Exception) -> None:
    DeadEntry.objects.get_or_create(
        stock_id=offer_id, stream_id=stream_id, defaults={"payload": payload, "error": repr(error)}
    )
    pass_by(offer_id, position_of(stream_id))


@nothing_for_nothing(of="events", returns=dict)
def commit(offer_id: int, events: list[HeldEvent], place_orders: PlaceOrders, *, any_epoch: bool) -> Statuses:
    """One transaction for all; when an event breaks it, two halves, until only the offenders are left. Answers the
    statuses of what is new."""
    try:
        return record(offer_id, events, place_orders, any_epoch=any_epoch)
    except AWAY:
        raise
    except Exception as error:
        if len(events) > 1:
            middle = len(events) // 2
            first = commit(offer_id, events[:middle], place_orders, any_epoch=any_epoch)
            return first | commit(offer_id, events[middle:], place_orders, any_epoch=any_epoch)
        if isinstance(error, IntegrityError):
            refuse(offer_id, events[0])
            pass_by(offer_id, events[0].position)
        else:
            _bury(offer_id, events[0].stream_id, payload_of(events[0]), error)
        return {}


def pass_by(offer_id: int, up_to: Position) -> None:
    """Nothing up to this place of the stream is still to be written down, though nothing was held there."""
    add_to_stock(offer_id, 0, up_to, 0, any_epoch=True)


def payload_of(event: HeldEvent) -> dict[str, str]:
    """The fields of the entry that an event came from."""
    return {
        "type": "held",
        "reservation": event.reservation_id,
        "buyer": str(event.buyer_id),
        "units": str(event.units),
        "epoch": str(event.epoch),
        "reason": event.reason,
    }


@nothing_for_nothing(of="events", returns=dict)
def record(
    offer_id: int, events: Sequence[HeldEvent], place_orders: PlaceOrders, *, any_epoch: bool = False
) -> Statuses:
    """Insert what is new, with its orders, and count it, all or nothing. Safe to repeat. Answers the statuses of what
    is new.

    Raises IntegrityError when PostgreSQL refuses an event, OtherEpoch when the offer has been rebuilt since.
    """
    with transaction.atomic():
        inserted = insert_reservations(offer_id, events, Reservation.State.HELD)
        statuses = _statuses(inserted, place_orders)
        add_to_buyers(offer_id, inserted)
        # The stock's row last, because everybody who records this offer waits for it.
        _count(offer_id, events, inserted, any_epoch=any_epoch)
        failpoint.hit("drain.uncommitted")
    return statuses


@nothing_for_nothing(returns=dict)
def _statuses(held: Sequence[Recorded], place_orders: PlaceOrders) -> Statuses:
    """What the polls shall read of held reservations, whose orders are made where they are missing."""
    numbers = place_orders(held)
    return {row.pk: (numbers[row.pk], int(row.expires_at.timestamp() * 1000)) for row in held}


def _count(offer_id: int, events: Sequence[HeldEvent], inserted: Sequence[Recorded], *, any_epoch: bool) -> None:
    epochs = {event.epoch for event in events}
    up_to = max(event.position for event in events)
    units = sum(moved.units for moved in inserted)
    if (not any_epoch and len(epochs) > 1) or not add_to_stock(
        offer_id, units, up_to, min(epochs), any_epoch=any_epoch
    ):
        raise OtherEpoch(f"offer {offer_id}: events of epochs {sorted(epochs)}")


def refuse(offer_id: int, event: HeldEvent) -> None:
    """PostgreSQL would not have it: say so to its buyer, and put its units back on sale."""
    with transaction.atomic():
        if insert_reservations(offer_id, [event], Reservation.State.REFUSED):
            tell_redis(offer_id, [event.reservation_id], Effect.Kind.REFUSE)


@nothing_for_nothing(returns=dict)
def _recorded_before(reservation_ids: list[str], place_orders: PlaceOrders) -> Statuses:
    """From what PostgreSQL really holds: an earlier try may have committed a part of this batch and told nobody."""
    held = Reservation.objects.filter(pk__in=reservation_ids, state=Reservation.State.HELD)
    return _statuses([Recorded._make(row) for row in held.values_list(*Recorded._fields)], place_orders)


@nothing_for_nothing(of="statuses")
def _write_statuses(offer_id: int, statuses: Statuses) -> None:
    """Tell the polls what is committed."""
    _record([_keys.reservations(offer_id)], [word for pk, status in statuses.items() for word in (pk, *status)])


@nothing_for_nothing(of="events")
def _release_refused(offer_id: int, events: list[HeldEvent]) -> None:
    """Once refused, always refused: a ticket that is used again holds units in a Redis which never heard of that."""
    refused = Reservation.objects.filter(pk__in=[e.reservation_id for e in events], state=Reservation.State.REFUSED)
    epochs = {event.reservation_id: event.epoch for event in events}
    settle(offer_id, [(pk, Effect.Kind.REFUSE, epochs[pk]) for pk in refused.values_list("pk", flat=True)])


def trim_all() -> int:
    """Forget events of all offers that were committed EVENTS_KEPT_SECONDS ago; answers how many.

    Raises InventoryUnavailable or AnswerLost when Redis is away.
    """
    kept_ms = settings.EVENTS_KEPT_SECONDS * 1000
    offers = Stock.objects.filter(archived=False, recovering_until=None).exclude(shelf_state="")
    with asking_redis():
        streams = [_keys.events(pk) for pk in offers.values_list("pk", flat=True)]
        return sum(_trim([stream], [kept_ms]) for stream in streams if stock_redis().exists(stream))
