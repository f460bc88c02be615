"""How far apart the counters of Redis and PostgreSQL are, cheaply enough to look every few seconds. Why they are, and
what to do about it, is for `reconciliation`."""

from collections.abc import Sequence

from django.db.models import Exists, OuterRef

from inventory import outbox, stock
from inventory.models import Effect, Stock, StockChange
from inventory.stock import Levels
from resilience.empty import nothing_for_nothing


@nothing_for_nothing(returns=dict)
def drift(offer_ids: Sequence[int]) -> dict[int, int]:
    """Units by which a counter of an offer differs, the largest of them. Offers of which anything is on its way between
    the stores are left out: they differ by that.

    Raises InventoryUnavailable when Redis cannot be asked.
    """
    before = _at_rest(offer_ids)
    rows = _rows_at_rest(list(before))
    after = _at_rest(list(before))
    return {
        pk: max(abs(levels.quantity - quantity), abs(levels.held - held), abs(levels.sold - sold))
        for pk, quantity, held, sold in rows
        if (levels := after.get(pk)) and levels == before[pk]
    }


@nothing_for_nothing(returns=dict)
def _at_rest(offer_ids: Sequence[int]) -> dict[int, Levels]:
    """Counters of the offers that Redis knows, and of which PostgreSQL has heard everything."""
    waiting = outbox.waiting_events(offer_ids)
    levels = stock.levels(list(offer_ids))
    return {pk: found for pk, found in levels.items() if found and not waiting[pk]}


@nothing_for_nothing(returns=list)
def _rows_at_rest(offer_ids: list[int]) -> list[tuple[int, int, int, int]]:
    """Id, quantity, held and sold of the offers of which Redis has heard everything: of one moment, by one query."""
    unsettled = Effect.objects.filter(stock=OuterRef("pk"), applied_at=None)
    changing = StockChange.objects.filter(stock=OuterRef("pk"), state=StockChange.State.PENDING)
    at_rest = Stock.objects.filter(~Exists(unsettled), ~Exists(changing), pk__in=offer_ids, recovering_until=None)
    return list(at_rest.values_list("pk", "quantity", "held", "sold"))
