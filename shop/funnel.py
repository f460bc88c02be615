"""From views to paid orders, counted for each sale: where buyers get lost.

Steps, in order: `view` (a page whose script has begun), `ticket` (given), `attempt` (Buy was pressed with one), the
word that answered it (`reserved`, `sold_out` ...), `placed`, then `paid`, `expired` or `cancelled`.
"""

import logging
from collections import Counter as Count
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from django.db import transaction

from inventory.outcomes import Outcome
from resilience.counting import OftenCounter
from shop import tickets
from shop.models import Offer

FUNNEL = OftenCounter("shop_funnel", "What became of buyers, by sale and step.", ["sale", "step"])

#: Sales that are counted by name; further ones of a process that lives so long count together.
SALES_MAXIMUM = 500
OTHERS = "others"
#: Offers whose sale a process remembers.
OFFERS_REMEMBERED = 1_024

logger = logging.getLogger(__name__)

_sales: set[str] = set()
_bound: dict[tuple[str, str], Callable[[float], None]] = {}


def count(sale: str, step: str, number: int = 1) -> None:
    """Only of a sale that is published: its name becomes a label. Never raises."""
    try:
        (_bound.get((sale, step)) or _bind(sale, step))(number)
    except Exception:
        logger.exception("a step was not counted")


def _bind(sale: str, step: str) -> Callable[[float], None]:
    if len(_sales) >= SALES_MAXIMUM and sale not in _sales:
        return FUNNEL.labels(OTHERS, step).inc
    _sales.add(sale)
    return _bound.setdefault((sale, step), FUNNEL.labels(sale, step).inc)


def clicked(sale: str, outcome: Outcome) -> None:
    """Somebody pressed Buy with a ticket of theirs."""
    count(sale, "attempt")
    count(sale, outcome.lower())


def when_committed(step: str, reservation_ids: Iterable[str]) -> None:
    """The orders of these have come so far, if the transaction that says so is committed."""
    offers = Count(filter(None, map(tickets.offer_of, reservation_ids)))
    if offers:
        transaction.on_commit(partial(_count_offers, step, offers), robust=True)


def _count_offers(step: str, offers: Count[int]) -> None:
    for offer_id, number in offers.items():
        count(_sale_of(offer_id), step, number)


@lru_cache(OFFERS_REMEMBERED)
def _sale_of(offer_id: int) -> str:
    """An offer never changes its sale, and a sale that was published keeps its name."""
    return Offer.objects.values_list("sale__slug", flat=True).get(pk=offer_id)
