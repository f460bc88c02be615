"""When stock Redis went back in time: notice it, stop selling, listen to the buyers, and sell on with what is left.

Redis may come back with its last second missing, or with nothing. PostgreSQL knows all that was written down, the old
stream what survives of the rest, and the buyers hold a signed receipt for each reservation that they were told of:

    1. `begin`   the next epoch starts in PostgreSQL: whatever still drains for the old one is refused from now on;
                 selling stops; what survives of the stream is recorded.
    2. `claim`   for a while, polls bring receipts of holds that neither store knows.
    3. `finish`  claims are recorded, the earliest first, while units last, the others refused and told so; Redis is
                 filled from PostgreSQL in one step under the next epoch, and sells on.

Each step may be repeated: a crash anywhere leaves the offer recovering, and `watch` goes on with it.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Now

from inventory import _keys, outbox
from inventory._connection import asking_redis, stock_redis
from inventory._persistence import HeldEvent, position_of
from inventory.models import Claim, Reservation, Stock
from inventory.outbox import PlaceOrders
from inventory.outcomes import Standing, Wish
from inventory.reservations import STATUS, reserve
from resilience import failpoint

#: Fields of one HSET: some hundred kilobytes.
FIELDS_AT_ONCE = 5_000
#: Late claims settled in one round: they come one by one.
CLAIMS_AT_ONCE = 500

logger = logging.getLogger(__name__)
#: For what moves units and must not be left out of any log.
audit_logger = logging.getLogger("audit.inventory")


def watch(place_orders: PlaceOrders) -> list[int]:
    """Look at every offer on the shelf once: begin a recovery where Redis lost data, finish those whose time has come.

    Answers the offers that are recovering now. Raises InventoryUnavailable when Redis cannot be asked: a Redis that is
    away sells nothing, and has lost nothing yet.
    """
    for stock in Stock.objects.filter(archived=False).exclude(shelf_state=""):
        if stock.recovering_until is None and has_lost_data(stock):
            logger.error("offer %s: stock Redis has lost data; selling stops and receipts are taken", stock.pk)
            begin(stock.pk, stock.epoch, place_orders)
    for pk in Stock.objects.filter(recovering_until__lte=Now()).values_list("pk", flat=True):
        finish(pk, place_orders)
    _settle_late_claims(place_orders)
    return list(Stock.objects.exclude(recovering_until=None).values_list("pk", flat=True))


def has_lost_data(stock: Stock) -> bool:
    """True when Redis knows less of an offer than PostgreSQL has seen of it: another epoch, no counters, no stream
    that its readers know, or a stream that ends before what was written down."""
    with asking_redis():
        epoch = stock_redis().hget(_keys.units(stock.pk), "epoch")
        if epoch != str(stock.epoch) or not _has_group(stock.pk):  # a stream that was lost comes back without it
            return True
        last: Any = stock_redis().xinfo_stream(_keys.events(stock.pk))["last-generated-id"]
    return position_of(str(last)) < (stock.high_water_ms, stock.high_water_seq)


def begin(offer_id: int, seen_epoch: int, place_orders: PlaceOrders, *, window_seconds: int | None = None) -> None:
    """Start the next epoch and take receipts for a while; nothing happens when somebody else did so since.

    Raises InventoryUnavailable when Redis is away: the offer is recovering all the same.
    """
    seconds = settings.CLAIM_WINDOW_SECONDS if window_seconds is None else window_seconds
    unchanged = Stock.objects.filter(pk=offer_id, epoch=seen_epoch, recovering_until=None)
    with transaction.atomic():
        if not unchanged.update(epoch=F("epoch") + 1, recovering_until=Now() + timedelta(seconds=seconds)):
            return
    failpoint.hit("recovery.begun")
    _empty_the_old(offer_id, place_orders)


def _empty_the_old(offer_id: int, place_orders: PlaceOrders) -> int:
    """Stop selling, then record what survives of the stream; answers how many events."""
    with asking_redis(), transaction.atomic():
        # Nobody fills Redis while the row is locked: a sale that another watcher has opened again is left alone.
        if not _locked(offer_id).recovering_until:
            return 0
        if stock_redis().exists(_keys.units(offer_id)):
            stock_redis().hset(_keys.units(offer_id), "state", "paused")
        if not _has_group(offer_id):
            return 0
    return outbox.drain(offer_id, place_orders, recovering=True)


def _locked(offer_id: int) -> Stock:
    return Stock.objects.select_for_update().get(pk=offer_id)


def _has_group(offer_id: int) -> bool:
    if not stock_redis().exists(_keys.events(offer_id)):
        return False
    groups: Any = stock_redis().xinfo_groups(_keys.events(offer_id))
    return any(group["name"] == _keys.GROUP for group in groups)


def claim(offer_id: int, standing: Standing, epoch: int, at_ms: int, place_orders: PlaceOrders) -> None:
    """Take a receipt for a hold that neither store knows; again, it changes nothing.

    A receipt of the present epoch is itself the proof that Redis lost data. The caller has checked that it is ours.
    Raises Stock.DoesNotExist for an offer that never was.
    """
    stock = Stock.objects.get(pk=offer_id)
    told: dict[str, Any] = {
        "stock": stock,
        "buyer_id": standing.buyer_id,
        "units": standing.units,
        "epoch": epoch,
        "reserved_at_ms": at_ms,
    }
    each, _ = Claim.objects.get_or_create(reservation_id=standing.reservation_id, defaults=told)
    if each.settled_at:  # held again since, and lost again before it was written down
        Claim.objects.filter(pk=each.pk).update(**told, settled_at=None)
    if epoch == stock.epoch and stock.recovering_until is None:
        logger.error("offer %s: a receipt of this epoch is unknown to stock Redis, which has lost data", offer_id)
        begin(offer_id, epoch, place_orders)


def finish(offer_id: int, place_orders: PlaceOrders) -> str:
    """Record the claims, fill Redis under the next epoch, and sell on; answers a line about it. Of several who finish
    the same recovery at once, the first fills Redis and the others leave it alone.

    Raises InventoryUnavailable when Redis is away: the offer stays recovering.
    """
    survived = _empty_the_old(offer_id, place_orders)
    claims = _record_claims(offer_id, place_orders)
    with asking_redis(), transaction.atomic():
        stock = _locked(offer_id)
        if not stock.recovering_until:
            return f"{stock} (epoch {stock.epoch}; somebody else has recovered it)"
        stock.epoch += 1
        stock.recovering_until = None
        stock.save(update_fields=["epoch", "recovering_until"])
        failpoint.hit("recovery.counted")
        _fill(stock)
        failpoint.hit("recovery.filled")
    line = f"{stock} (epoch {stock.epoch}; {survived} events survived, {claims} receipts were shown)"
    audit_logger.error("recovered %s", line)
    return line


def _record_claims(offer_id: int, place_orders: PlaceOrders) -> int:
    """As if their events had survived, the earliest first; PostgreSQL's constraints say whether there is a unit.

    A transaction each, because everybody locks buyers before the stock. A receipt that comes after this look is late.
    """
    shown = Claim.objects.filter(stock_id=offer_id, settled_at=None, stock__recovering_until__isnull=False)
    claims = list(shown.order_by("reserved_at_ms", "pk"))
    for each in claims:
        with transaction.atomic():
            outbox.commit(offer_id, [_event_of(each)], place_orders, any_epoch=True)
            Claim.objects.filter(pk=each.pk).update(settled_at=Now())
    return len(claims)


def _settle_late_claims(place_orders: PlaceOrders) -> None:
    """Receipts that came after the window: they get units as long as there are some, from Redis like everybody."""
    late = Claim.objects.filter(settled_at=None, stock__recovering_until=None)
    for each in late.order_by("reserved_at_ms", "pk")[:CLAIMS_AT_ONCE]:
        [answer] = reserve(each.stock_id, [Wish(each.reservation_id, each.buyer_id, each.units, "late")])
        if answer.outcome.is_final:
            with transaction.atomic():
                if not answer.outcome.yours:
                    outbox.refuse(each.stock_id, _event_of(each))
                Claim.objects.filter(pk=each.pk).update(settled_at=Now())


def _event_of(each: Claim) -> HeldEvent:
    return HeldEvent(f"{each.reserved_at_ms}-0", each.reservation_id, each.buyer_id, each.units, each.epoch)


def rebuild(offer_id: int, place_orders: PlaceOrders, *, window_seconds: int = 0) -> str:
    """Fill Redis anew from PostgreSQL, now; answers a line about it. Never puts more on sale than is left.

    Raises InventoryUnavailable when Redis is away, and LostCommits when only Redis still knows what was recorded.
    """
    outbox.refuse_if_commits_are_lost(offer_id)
    epoch = Stock.objects.values_list("epoch", flat=True).get(pk=offer_id)
    begin(offer_id, epoch, place_orders, window_seconds=window_seconds)
    return finish(offer_id, place_orders)


def _fill(stock: Stock) -> None:
    reservations, buyers = _contents(stock.pk)
    step = stock_redis().pipeline(transaction=True)
    step.delete(*_keys.all_of(stock.pk))
    step.xgroup_create(_keys.events(stock.pk), _keys.GROUP, id="0", mkstream=True)
    # New events come after all that were ever written down, also by a clock that was set back.
    high_water = f"{stock.high_water_ms}-{stock.high_water_seq}"
    step.execute_command("XSETID", _keys.events(stock.pk), high_water)  # type: ignore[no-untyped-call]
    _put(step, _keys.reservations(stock.pk), reservations.items())
    _put(step, _keys.buyers(stock.pk), buyers.items())
    _put(step, _keys.units(stock.pk), _counters(stock).items())
    step.execute()


def _put(step: Any, key: str, fields: Iterable[tuple[str, Any]]) -> None:
    fields = list(fields)
    for start in range(0, len(fields), FIELDS_AT_ONCE):
        step.hset(key, mapping=dict(fields[start : start + FIELDS_AT_ONCE]))


def _counters(stock: Stock) -> dict[str, int | str]:
    taken = stock.reservations.aggregate(units=Sum("units"))["units"]
    return {
        "quantity": stock.quantity,
        "available": stock.available,
        "held": stock.held,
        "sold": stock.sold,
        "limit": stock.unit_limit,
        "epoch": stock.epoch,
        "state": stock.shelf_state,
        "opens_at_ms": stock.opens_at_ms,
        "closes_at_ms": stock.closes_at_ms,
        "taken": taken or 0,
        "waiting": 0,
    }


def _contents(offer_id: int) -> tuple[dict[str, str], dict[str, str]]:
    """The reservations and buyers of an offer, spelled as the scripts spell them."""
    records: dict[str, str] = {}
    had: dict[int, tuple[int, list[str]]] = {}
    for reservation in Reservation.objects.filter(stock_id=offer_id).iterator():
        status = STATUS[Reservation.State(reservation.state)]
        records[reservation.pk] = f"{status}:{reservation.buyer_id}:{reservation.units}"
        if status in ("placed", "paid"):
            units, ids = had.get(reservation.buyer_id, (0, []))
            had[reservation.buyer_id] = (units + reservation.units, [*ids, reservation.pk])
    return records, {str(buyer_id): f"{units}:{','.join(ids)}" for buyer_id, (units, ids) in had.items()}
