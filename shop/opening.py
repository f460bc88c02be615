"""The life of a sale: schedule, preheat, open now, pause, resume, close. Each verb is safe to repeat."""

from django.db import transaction
from django.utils import timezone

from inventory import stock
from inventory.models import Stock
from shop.models import Offer, Product, Sale

#: What the shelf of Redis is told for each state of a sale; a draft is not on the shelf.
_SHELF_STATE = {
    Sale.State.SCHEDULED: "open",
    Sale.State.PAUSED: "paused",
    Sale.State.CLOSED: "closed",
}
RUNNING = {Sale.State.SCHEDULED, Sale.State.PAUSED}
PUBLISHED = {*RUNNING, Sale.State.CLOSED}


class NotPossible(Exception):
    """The sale's state does not allow this. The message says why, for the person who asked."""


def add_offer(
    sale: Sale,
    product: Product,
    *,
    price_minor: int,
    quantity: int,
    unit_limit: int = 1,
    hold_seconds: int = 900,
) -> Offer:
    """Offer a product in a sale that is not on the shelf yet."""
    with transaction.atomic():
        stock_row = Stock.objects.create(quantity=quantity, unit_limit=unit_limit, hold_seconds=hold_seconds)
        return Offer.objects.create(stock=stock_row, sale=sale, product=product, price_minor=price_minor)


def schedule(sale: Sale) -> list[str]:
    """Publish a draft, with its stock on the shelf: it sells when it opens."""
    if not sale.offers.exists():
        raise NotPossible(f"{sale.slug} offers nothing yet")
    return _move(sale, Sale.State.SCHEDULED, "only a draft can be scheduled", {Sale.State.DRAFT, Sale.State.SCHEDULED})


def refuse_draft(sale: Sale) -> None:
    """Raises NotPossible for what nobody may see yet."""
    if sale.state not in PUBLISHED:
        raise NotPossible(f"{sale.slug} is {sale.state}: schedule it first")


def put_on_shelf(sale: Sale) -> list[str]:
    """Tell Redis once more what it should know of a published sale. `preheating` does this first, then the caches."""
    return _move(sale, None, "schedule it first", PUBLISHED)


def open_now(sale: Sale) -> list[str]:
    """Open a scheduled sale before its time. Its page hears of it with its next poll."""
    with transaction.atomic():
        locked, now = Sale.objects.select_for_update().get(pk=sale.pk), timezone.now()
        if locked.state != Sale.State.SCHEDULED or locked.opens_at <= now:
            raise NotPossible(
                f"{locked.slug} is {locked.state}, and opens at {locked.opens_at}: there is nothing to open"
            )
        locked.opens_at = now
        locked.save(update_fields=["opens_at"])
        lines = put_on_shelf(locked)
    sale.opens_at = locked.opens_at
    return lines


def pause(sale: Sale) -> list[str]:
    """Stop selling at once; holds and orders go on."""
    return _move(sale, Sale.State.PAUSED, "only a scheduled sale can be paused", RUNNING)


def resume(sale: Sale) -> list[str]:
    """Sell again."""
    return _move(sale, Sale.State.SCHEDULED, "only a paused sale can be resumed", RUNNING)


def close(sale: Sale) -> list[str]:
    """End the sale for good; holds can still be paid."""
    return _move(sale, Sale.State.CLOSED, "it was never open", PUBLISHED)


def archive(sale: Sale) -> bool:
    """Take a closed sale off its page and out of Redis. False while some of its holds are open: try again later."""
    if sale.state != Sale.State.CLOSED:
        raise NotPossible(f"{sale.slug} is {sale.state}: only a closed sale can be archived")
    gone = [stock.archive(offer.pk) for offer in sale.offers.all()]
    return all(gone)


def _move(sale: Sale, to: Sale.State | None, otherwise: str, from_states: set[Sale.State]) -> list[str]:
    """PostgreSQL and Redis together: when Redis refuses, PostgreSQL rolls back and the verb can be repeated.

    The state is judged on the locked row, because two members of staff may press at once; `to` None keeps it. Answers
    a line for each offer. Raises NotPossible, stock.ShelfLost or InventoryUnavailable.
    """
    with transaction.atomic():
        locked = Sale.objects.select_for_update().get(pk=sale.pk)
        if locked.state not in from_states:
            raise NotPossible(f"{locked.slug} is {locked.state}: {otherwise}")
        if to:
            locked.state = to
            locked.save(update_fields=["state"])
        shelf = shelf_of(locked)
        offers = list(locked.offers.select_related("product"))
        lines = [f"{offer.product}: {stock.put_on_shelf(offer.pk, shelf)}" for offer in offers]
    sale.state = locked.state
    return lines


def shelf_of(sale: Sale) -> stock.Shelf:
    """What Redis is told about when and whether the sale sells."""
    opens_at_ms, closes_at_ms = (int(moment.timestamp() * 1000) for moment in (sale.opens_at, sale.closes_at))
    return stock.Shelf(_SHELF_STATE[Sale.State(sale.state)], opens_at_ms, closes_at_ms)
