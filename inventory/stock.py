"""The counters of an offer: put on the shelf of Redis, read by everybody, changed by the sale's staff."""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from inventory import _keys
from inventory._connection import asking_redis, stock_redis
from inventory._scripts import Script
from inventory.models import Stock
from inventory.outcomes import InventoryUnavailable

_install = Script("install.lua")


@dataclass(frozen=True, slots=True)
class Shelf:
    """When and whether an offer sells. state: open, paused or closed; times by the clock of Redis."""

    state: str
    opens_at_ms: int
    closes_at_ms: int


@dataclass(frozen=True, slots=True)
class Levels:
    """The counters of an offer at one moment. quantity = available + held + sold."""

    quantity: int
    available: int
    held: int
    sold: int
    epoch: int
    state: str
    opens_at_ms: int
    closes_at_ms: int


class ShelfLost(InventoryUnavailable):
    """Redis does not know an offer that has sold before: it lost data, and only `rebuild` may fill it again."""


def put_on_shelf(offer_id: int, shelf: Shelf) -> str:
    """Make Redis sell an offer by the given state and window; safe to repeat. Answers INSTALLED or UPDATED.

    Raises ShelfLost when PostgreSQL remembers reservations that Redis has forgotten, InventoryUnavailable when Redis
    cannot be asked.
    """
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        untouched = not stock.reservations.exists()
        word = _install(
            [_keys.units(offer_id), _keys.events(offer_id)],
            [
                *(stock.quantity, stock.unit_limit, stock.epoch),
                *(shelf.state, shelf.opens_at_ms, shelf.closes_at_ms),
                "MAKE" if untouched else "KEEP",
            ],
        )
    if word in ("STALE", "MISSING"):
        raise ShelfLost(f"offer {offer_id}: Redis holds another epoch or lost its data ({word}); `rebuild` fills it")
    return str(word)


def shelf_fields(stock: Stock, shelf: Shelf) -> dict[str, int | str]:
    """The counters of an offer as PostgreSQL knows them, by the names of the units hash."""
    return {
        "quantity": stock.quantity,
        "available": stock.available,
        "held": stock.held,
        "sold": stock.sold,
        "limit": stock.unit_limit,
        "epoch": stock.epoch,
        "state": shelf.state,
        "opens_at_ms": shelf.opens_at_ms,
        "closes_at_ms": shelf.closes_at_ms,
    }


def archive(offer_id: int) -> bool:
    """Take an offer whose sale is over out of Redis. False, and nothing changed, while holds or events are open.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
    with asking_redis(), transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        still_open = stock.held or stock.effects.filter(applied_at=None).exists() or _events_wait(offer_id)
        if not still_open and not stock.archived:
            stock.archived = True
            stock.save(update_fields=["archived"])
            stock_redis().delete(*_keys.all_of(offer_id))
    return stock.archived


def _events_wait(offer_id: int) -> bool:
    return bool(stock_redis().xlen(_keys.events(offer_id)))


def levels(offer_ids: list[int]) -> dict[int, Levels | None]:
    """The counters of several offers in one round trip; None for an offer that Redis does not know.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
    if not offer_ids:
        return {}
    pipeline = stock_redis().pipeline(transaction=False)
    for offer_id in offer_ids:
        pipeline.hgetall(_keys.units(offer_id))
    with asking_redis():
        answers = pipeline.execute()
    return {offer_id: _levels(fields) for offer_id, fields in zip(offer_ids, answers, strict=True)}


def _levels(fields: dict[str, Any]) -> Levels | None:
    try:
        return Levels(
            quantity=int(fields["quantity"]),
            available=int(fields["available"]),
            held=int(fields["held"]),
            sold=int(fields["sold"]),
            epoch=int(fields["epoch"]),
            state=fields["state"],
            opens_at_ms=int(fields["opens_at_ms"]),
            closes_at_ms=int(fields["closes_at_ms"]),
        )
    except (KeyError, ValueError):
        return None


def ping() -> None:
    """Raises InventoryUnavailable when stock Redis does not answer."""
    with asking_redis():
        stock_redis().ping()
