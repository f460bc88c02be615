"""What a person does with an event that made no sense: have it recorded after all, or give its units back."""

from django.db import IntegrityError, transaction

from inventory import _keys, outbox
from inventory._connection import asking_redis, stock_redis
from inventory._persistence import HeldEvent
from inventory.models import DeadEntry
from inventory.outbox import PlaceOrders


class NotPossible(Exception):
    """The event cannot be treated like that. The message says why, for the person who asked."""


def replay(entry: DeadEntry, place_orders: PlaceOrders) -> None:
    """Record the event now, because what stood in its way is gone. Safe to repeat.

    Raises NotPossible when it still makes no sense or PostgreSQL still refuses it.
    """
    event = _event(entry)
    try:
        outbox.record(entry.stock_id, [event], place_orders, any_epoch=True)
    except IntegrityError as error:
        raise NotPossible(f"PostgreSQL refuses it: {error}") from error
    _resolve(entry, "replayed")


def void(entry: DeadEntry) -> None:
    """Refuse the event: its buyer is told, and its units go back on sale, if Redis holds any for it. Safe to repeat.

    Raises InventoryUnavailable when Redis cannot be asked: then nothing was changed.
    """
    reservation_id = str(entry.payload.get("reservation", ""))
    with asking_redis():
        held = stock_redis().hget(_keys.reservations(entry.stock_id), reservation_id)
    with transaction.atomic():
        if held:
            _, buyer_id, units, *_ = str(held).split(":")
            event = HeldEvent(entry.stream_id, reservation_id, int(buyer_id), int(units), epoch=0)
            outbox.refuse(entry.stock_id, event)
        _resolve(entry, "voided")


def _event(entry: DeadEntry) -> HeldEvent:
    try:
        return outbox.event_of(entry.stock_id, entry.stream_id, entry.payload)
    except (KeyError, ValueError, TypeError) as error:
        raise NotPossible(f"it makes no sense: {error!r}") from error


def _resolve(entry: DeadEntry, resolution: str) -> None:
    DeadEntry.objects.filter(pk=entry.pk, resolution="").update(resolution=resolution)
