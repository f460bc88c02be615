"""The counters of an offer: put on the shelf of Redis, read by everybody, changed by the sale's staff."""

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F

from inventory import _keys
from inventory._connection import asking_redis, stock_redis
from inventory._scripts import Script
from inventory.models import Stock, StockChange
from inventory.outcomes import InventoryUnavailable
from resilience import failpoint
from resilience.empty import nothing_for_nothing

#: Units of one change, and of one offer: PostgreSQL's integer holds the sum of two hundred such changes.
UNITS_MAXIMUM = 10_000_000

_install = Script("install.lua")
_change = Script("change.lua")
_ready = Script("ready.lua")


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
    """Redis does not know an offer that it was given before: it lost data, and only a recovery may fill it again."""


def put_on_shelf(offer_id: int, shelf: Shelf) -> str:
    """Make Redis sell an offer by the given state and window; safe to repeat. Answers INSTALLED or UPDATED, or
    RECOVERING when Redis is being filled anew: then it is told at the end of that.

    Raises ShelfLost when Redis has forgotten what it was given before, InventoryUnavailable when it cannot be asked.
    """
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        first_time = not stock.shelf_state
        if first_time:
            _enter_opening(stock)
        _remember(stock, shelf)
        if stock.recovering_until:
            return "RECOVERING"
        word = _install(
            [_keys.units(offer_id), _keys.events(offer_id)],
            [
                *(stock.quantity, stock.unit_limit, stock.epoch),
                *(shelf.state, shelf.opens_at_ms, shelf.closes_at_ms),
                "MAKE" if first_time else "KEEP",
            ],
        )
        if word in ("STALE", "MISSING"):
            raise ShelfLost(
                f"offer {offer_id}: Redis holds another epoch or lost its data ({word}); `rebuild` fills it"
            )
    return str(word)


def _enter_opening(stock: Stock) -> None:
    """The first line of the ledger."""
    StockChange.objects.create(
        id=uuid.uuid4(),
        stock=stock,
        asked=stock.quantity,
        moved=stock.quantity,
        reason="opening",
        by="",
        state=StockChange.State.DONE,
        epoch=stock.epoch,
    )


def _remember(stock: Stock, shelf: Shelf) -> None:
    stock.shelf_state = shelf.state
    stock.opens_at_ms, stock.closes_at_ms = shelf.opens_at_ms, shelf.closes_at_ms
    stock.save(update_fields=["shelf_state", "opens_at_ms", "closes_at_ms"])


def change(offer_id: int, units: int, *, reason: str, by: str, change_id: uuid.UUID | None = None) -> StockChange:
    """Add units to the offer, or take free ones away; the same id again is the same change.

    Up, PostgreSQL counts them first, so that Redis never sells what is not there; down, Redis gives up first what is
    free at that moment, which may be less than asked. Raises InventoryUnavailable or AnswerLost when Redis is away: the
    change stays pending, and `finish_changes` goes on with it. Raises ValueError for no units or too many.
    """
    if not units or abs(units) > UNITS_MAXIMUM:
        raise ValueError(f"units must be from 1 to {UNITS_MAXIMUM}, more or fewer, not {units}")
    change_id = change_id or uuid.uuid4()
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        asked, new = StockChange.objects.get_or_create(
            id=change_id,
            defaults={"stock": stock, "asked": units, "reason": reason, "by": by, "epoch": stock.epoch},
        )
        if new and units > 0:
            Stock.objects.filter(pk=offer_id).update(quantity=F("quantity") + units)
    failpoint.hit("change.asked")
    return _finish(asked)


def finish_changes() -> int:
    """Go on with the changes that a crash or an absent Redis left pending; answers how many."""
    pending = StockChange.objects.filter(state=StockChange.State.PENDING, stock__recovering_until=None)
    in_order = list(pending.order_by("created_at"))
    for asked in in_order:
        _finish(asked)
    return len(in_order)


def _finish(asked: StockChange) -> StockChange:
    if asked.state == StockChange.State.DONE:
        return asked
    word = _change(
        [_keys.units(asked.stock_id), _keys.changes(asked.stock_id)], [str(asked.pk), asked.asked, asked.epoch]
    )
    failpoint.hit("change.moved")
    if word == "MISSING":
        raise ShelfLost(f"offer {asked.stock_id} is not in Redis: the change waits")
    return _ask_again(asked) if word == "STALE" and asked.asked < 0 else _close(asked, word)


def _ask_again(asked: StockChange) -> StockChange:
    """Redis was filled anew from a PostgreSQL that had not given up these units yet."""
    epoch = Stock.objects.values_list("epoch", flat=True).get(pk=asked.stock_id)
    if epoch == asked.epoch:
        raise ShelfLost(f"offer {asked.stock_id} is being filled anew: the change waits")
    asked.epoch = epoch
    asked.save(update_fields=["epoch"])
    return _finish(asked)


def _close(asked: StockChange, word: str) -> StockChange:
    moved = asked.asked if word == "STALE" else int(word)
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=asked.stock_id)
        filled_since = moved < 0 and stock.epoch != asked.epoch  # with these units in it
        if not filled_since:
            mine = StockChange.objects.filter(pk=asked.pk, state=StockChange.State.PENDING)
            won = mine.update(state=StockChange.State.DONE, moved=moved)
            if won and moved < 0:
                Stock.objects.filter(pk=asked.stock_id).update(quantity=F("quantity") + moved)
    if filled_since:
        return _ask_again(asked)
    asked.refresh_from_db()
    return asked


def change_limit(offer_id: int, unit_limit: int) -> None:
    """How many units a buyer may have from now on; whoever has more already keeps them.

    Redis insists on it at once. PostgreSQL, the last defence, insists on the highest limit there ever was, so that no
    hold is refused for being on its way. Raises ShelfLost, InventoryUnavailable or AnswerLost: then it is as it was.
    """
    with transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        stock.highest_limit = max(stock.highest_limit, stock.unit_limit, unit_limit)
        stock.unit_limit = unit_limit
        stock.save(update_fields=["unit_limit", "highest_limit"])
        if stock.shelf_state:
            put_on_shelf(offer_id, shelf_of(stock))


def shelf_of(stock: Stock) -> Shelf:
    """What Redis was last told."""
    return Shelf(stock.shelf_state, stock.opens_at_ms, stock.closes_at_ms)


def archive(offer_id: int) -> bool:
    """Take an offer whose sale is over out of Redis. False, and nothing changed, while holds or events are open.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
    with asking_redis(), transaction.atomic():
        stock = Stock.objects.select_for_update().get(pk=offer_id)
        if not stock.archived and not _still_open(stock):
            stock.archived = True
            stock.save(update_fields=["archived"])
            stock_redis().delete(*_keys.all_of(offer_id))
    return stock.archived


def _still_open(stock: Stock) -> bool:
    waiting = stock_redis().hget(_keys.units(stock.pk), "waiting")
    return bool(
        stock.held
        or stock.recovering_until
        or int(waiting or 0)
        or stock.effects.filter(applied_at=None).exists()
        or stock.changes.filter(state=StockChange.State.PENDING).exists()
    )


@nothing_for_nothing(returns=dict)
def levels(offer_ids: list[int]) -> dict[int, Levels | None]:
    """The counters of several offers in one round trip; None for an offer that Redis does not know.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
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


def ready() -> None:
    """Returns when stock Redis would take a reservation; asked by a script that Redis refuses as it would refuse that.

    Raises InventoryFull when it has no room, InventoryUnavailable or AnswerLost when it cannot be asked.
    """
    _ready([], [])
