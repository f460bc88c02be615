"""Filling Redis anew from PostgreSQL, after it lost data: under a new epoch, and never with more than is left."""

from typing import Any

from django.db import transaction

from inventory import _keys, outbox, stock
from inventory._connection import asking_redis, stock_redis
from inventory.models import Reservation, Stock
from inventory.outbox import PlaceOrders
from inventory.stock import Shelf

#: PostgreSQL's word for a reservation -> the word its buyer's polls read.
_STATUS = {
    Reservation.State.HELD: "placed",
    Reservation.State.CONFIRMED: "paid",
    Reservation.State.RELEASED: "released",
    Reservation.State.EXPIRED: "expired",
    Reservation.State.REFUSED: "refused",
}
#: Fields of one HSET: some hundred kilobytes.
FIELDS_AT_ONCE = 5_000


def rebuild(offer_id: int, shelf: Shelf, place_orders: PlaceOrders) -> str:
    """Replace what Redis holds of an offer by what PostgreSQL knows; answers a line about it.

    In this order, so that a crash anywhere sells less, never more: stop selling, record what survives of the old
    stream, then fill Redis in one step under the next epoch. Raises InventoryUnavailable when Redis is away.
    """
    with asking_redis():
        _stop_selling(offer_id)
        survived = outbox.drain(offer_id, place_orders) if outbox.waiting_events([offer_id])[offer_id] else 0
        with transaction.atomic():
            stock_row = Stock.objects.select_for_update().get(pk=offer_id)
            stock_row.epoch += 1
            stock_row.save(update_fields=["epoch"])
            _fill(stock_row, shelf)
    return f"{stock_row} (epoch {stock_row.epoch}, {survived} events survived)"


def _stop_selling(offer_id: int) -> None:
    if stock_redis().exists(_keys.units(offer_id)):
        stock_redis().hset(_keys.units(offer_id), "state", "paused")


def _fill(stock_row: Stock, shelf: Shelf) -> None:
    reservations, buyers = _contents(stock_row.pk)
    step = stock_redis().pipeline(transaction=True)
    step.delete(*_keys.all_of(stock_row.pk))
    step.xgroup_create(_keys.events(stock_row.pk), _keys.GROUP, id="0", mkstream=True)
    _put(step, _keys.reservations(stock_row.pk), reservations)
    _put(step, _keys.buyers(stock_row.pk), buyers)
    _put(step, _keys.units(stock_row.pk), stock.shelf_fields(stock_row, shelf))
    step.execute()


def _put(step: Any, key: str, fields: dict[str, Any]) -> None:
    names = list(fields)
    for start in range(0, len(names), FIELDS_AT_ONCE):
        step.hset(key, mapping={name: fields[name] for name in names[start : start + FIELDS_AT_ONCE]})


def _contents(offer_id: int) -> tuple[dict[str, str], dict[str, str]]:
    """The reservations and buyers of an offer, spelled as the scripts spell them."""
    records: dict[str, str] = {}
    had: dict[int, tuple[int, list[str]]] = {}
    for reservation in Reservation.objects.filter(stock_id=offer_id).iterator():
        status = _STATUS[Reservation.State(reservation.state)]
        records[reservation.pk] = f"{status}:{reservation.buyer_id}:{reservation.units}"
        if status in ("placed", "paid"):
            units, ids = had.get(reservation.buyer_id, (0, []))
            had[reservation.buyer_id] = (units + reservation.units, [*ids, reservation.pk])
    return records, {str(buyer_id): f"{units}:{','.join(ids)}" for buyer_id, (units, ids) in had.items()}
