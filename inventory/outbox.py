"""Writing down in PostgreSQL what Redis let happen: the drain of the events stream.

For each batch, in this order: one transaction inserts reservations and orders and moves the stock's counters; then the
statuses go where the polls read them; then the batch is acknowledged. A crash between any two steps repeats the batch,
and a repeated batch inserts nothing, moves nothing and writes the same statuses again.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from billiard.process import current_process  # Celery's pool numbers the processes that it forks
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from redis import Redis

from inventory import _keys
from inventory._connection import asking_redis, stock_redis
from inventory._persistence import HeldEvent, insert_reservations
from inventory._scripts import Script
from inventory.models import DeadEntry, Effect, Reservation, Stock
from inventory.reservations import tell_redis

#: Events a worker claims at once: 500 keeps one INSERT near 6 ms and leaves little to redo after a crash.
BATCH_EVENTS = 500

_record = Script("record.lua")

#: Makes the orders of held reservations that have none yet, inside the drain's transaction; answers
#: reservation id -> order number for each reservation it was given.
PlaceOrders = Callable[[Sequence[Reservation]], dict[str, str]]


def consumer_name() -> str:
    """Stable over restarts of a worker slot, so that it finds again what it had claimed before it died."""
    slot = os.environ.get("WORKER_SLOT") or str(getattr(current_process(), "index", 0))
    return f"{socket.gethostname()}:{slot}"


def drain_all(place_orders: PlaceOrders) -> int:
    """Record the waiting events of every offer that is not archived; answers how many events."""
    offers = list(Stock.objects.filter(archived=False).values_list("pk", flat=True))
    return sum(drain(offer_id, place_orders) for offer_id, waiting in waiting_events(offers).items() if waiting)


def waiting_events(offer_ids: Sequence[int]) -> dict[int, int]:
    """How many events of each offer PostgreSQL has yet to hear of. Empty input makes no round trip."""
    if not offer_ids:
        return {}
    pipeline = stock_redis().pipeline(transaction=False)
    for offer_id in offer_ids:
        pipeline.xlen(_keys.events(offer_id))
    with asking_redis():
        return dict(zip(offer_ids, pipeline.execute(), strict=True))


def drain(offer_id: int, place_orders: PlaceOrders, *, consumer: str | None = None) -> int:
    """Record the waiting events of one offer; answers how many. Safe to run in parallel and to kill at any step.

    Raises InventoryUnavailable or django.db.OperationalError when a side is away; what is not acknowledged comes again.
    """
    consumer = consumer or consumer_name()
    recorded = 0
    with asking_redis():
        while batch := _next_batch(offer_id, consumer):
            _record_batch(offer_id, batch, place_orders)
            recorded += len(batch)
    return recorded


Entry = tuple[str, dict[str, str]]


def _next_batch(offer_id: int, consumer: str) -> list[Entry]:
    """What this consumer had before it died, else what the dead have left, else what is new."""
    client, stream = stock_redis(), _keys.events(offer_id)
    return (
        _read(client, stream, consumer, "0")
        or _claim_from_the_dead(client, stream, consumer)
        or _read(client, stream, consumer, ">")
    )


def _read(client: Redis, stream: str, consumer: str, since: str) -> list[Entry]:
    answer: Any = client.xreadgroup(_keys.GROUP, consumer, {stream: since}, count=BATCH_EVENTS)
    if isinstance(answer, dict):  # RESP3 answers stream -> [entries]
        return [entry for batches in answer.values() for batch in batches for entry in batch]
    return [entry for _, entries in answer or [] for entry in entries]


def _claim_from_the_dead(client: Redis, stream: str, consumer: str) -> list[Entry]:
    idle_ms = settings.CLAIM_AFTER_SECONDS * 1000
    answer: Any = client.xautoclaim(stream, _keys.GROUP, consumer, idle_ms, count=BATCH_EVENTS)
    return list(answer[1])


def _record_batch(offer_id: int, entries: list[Entry], place_orders: PlaceOrders) -> None:
    events = _understood(offer_id, entries)
    _commit(offer_id, events, place_orders)
    _write_statuses(offer_id, [event.reservation_id for event in events], place_orders)
    _acknowledge(offer_id, [stream_id for stream_id, _ in entries])


def _understood(offer_id: int, entries: list[Entry]) -> list[HeldEvent]:
    """The entries that make sense; the others are kept as dead events, for a person."""
    events = []
    for stream_id, fields in entries:
        try:
            events.append(_event(offer_id, stream_id, fields or {}))
        except (KeyError, ValueError, TypeError) as error:
            DeadEntry.objects.get_or_create(
                stock_id=offer_id,
                stream_id=stream_id,
                defaults={"payload": fields or {}, "error": repr(error)},
            )
    return events


def _event(offer_id: int, stream_id: str, fields: dict[str, str]) -> HeldEvent:
    if fields["type"] != "held":
        raise ValueError(f"no such type: {fields['type']}")
    if not fields["reservation"].startswith(f"{offer_id}-"):
        raise ValueError(f"a reservation of another offer: {fields['reservation']}")
    event = HeldEvent(
        stream_id, fields["reservation"], int(fields["buyer"]), int(fields["units"]), int(fields["epoch"])
    )
    if event.units < 1 or event.buyer_id < 1 or len(event.reservation_id) > 48:
        raise ValueError("units, buyer or reservation out of range")
    return event


def _commit(offer_id: int, events: list[HeldEvent], place_orders: PlaceOrders) -> None:
    """One transaction for all; when a constraint refuses it, one for each, so that only the offender is refused."""
    try:
        _insert(offer_id, events, place_orders)
    except IntegrityError:
        for event in events:
            try:
                _insert(offer_id, [event], place_orders)
            except IntegrityError:
                _refuse(offer_id, event)


def _insert(offer_id: int, events: list[HeldEvent], place_orders: PlaceOrders) -> None:
    if not events:
        return
    with transaction.atomic():
        inserted = insert_reservations(offer_id, events, Reservation.State.HELD)
        place_orders(list(Reservation.objects.filter(pk__in=[pk for pk, _ in inserted])))
        # Last, because everybody who records this offer waits for this row. Only rows really inserted count.
        Stock.objects.filter(pk=offer_id).update(held=F("held") + sum(units for _, units in inserted))


def _refuse(offer_id: int, event: HeldEvent) -> None:
    """PostgreSQL would not have it: say so to its buyer, and put its units back on sale."""
    with transaction.atomic():
        if insert_reservations(offer_id, [event], Reservation.State.REFUSED):
            tell_redis(offer_id, [event.reservation_id], Effect.Kind.REFUSE)


def _write_statuses(offer_id: int, reservation_ids: list[str], place_orders: PlaceOrders) -> None:
    """Tell the polls, from what PostgreSQL really holds: an earlier try may have committed part of this batch."""
    held = list(Reservation.objects.filter(pk__in=reservation_ids, state=Reservation.State.HELD))
    if not held:
        return
    numbers = place_orders(held)
    arguments: list[Any] = []
    for reservation in held:
        arguments += [reservation.pk, numbers[reservation.pk], int(reservation.expires_at.timestamp() * 1000)]
    _record([_keys.reservations(offer_id)], arguments)


def _acknowledge(offer_id: int, stream_ids: list[str]) -> None:
    """Committed, so the group is done with it, and the stream need not keep it."""
    pipeline = stock_redis().pipeline(transaction=True)
    pipeline.xack(_keys.events(offer_id), _keys.GROUP, *stream_ids)
    pipeline.xdel(_keys.events(offer_id), *stream_ids)
    pipeline.execute()
