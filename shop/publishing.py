"""What changes is seen at once: whoever saves a product, a sale or an offer, by whatever way, has it dropped from the
caches when the change is committed.

The one place of the shop that uses signals: the admin, commands, tasks and somebody's shell must all be heard. What
`QuerySet.update` writes has no signal; whoever writes that way calls `outdate`.
"""

from collections.abc import Iterable
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from inventory.models import Stock
from shop import catalog, pages
from shop.models import Offer, Product, Sale

#: What pages show of a stock and Redis does not say. Its counters come from Redis, and no page waits for a commit.
_SHOWN_OF_STOCK = {"unit_limit", "archived"}


def connect() -> None:
    for signal in (post_save, post_delete):
        signal.connect(_sale_changed, sender=Sale)
        signal.connect(_offer_changed, sender=Offer)
    post_save.connect(_product_changed, sender=Product)  # neither is deleted as long as an offer needs it
    post_save.connect(_stock_changed, sender=Stock)


def outdate(slugs: Iterable[str]) -> None:
    """Drop from all caches what they hold of these sales, when the transaction is committed; at once without one."""
    slugs = set(slugs)
    if not slugs or _joined(slugs):
        return
    transaction.on_commit(_Outdated(slugs), robust=True)


class _Outdated:
    """The sales that a transaction has changed: one trip to the caches for all of them."""

    def __init__(self, slugs: set[str]) -> None:
        self.slugs = slugs

    def __call__(self) -> None:
        keys = [catalog.SLUGS_KEY, catalog.LIST_KEY, *map(pages.sales_key, pages.LANGUAGES)]
        for slug in sorted(self.slugs):
            keys += [catalog.facts_key(slug), catalog.live_key(slug)]
            keys += [pages.sale_key(slug, language) for language in pages.LANGUAGES]
        cache.delete_many(keys)


def _joined(slugs: set[str]) -> bool:
    """Add them to what this transaction drops already. A savepoint that could still undo that would undo us too."""
    for _savepoints, dropping, _robust in transaction.get_connection().run_on_commit:
        if isinstance(dropping, _Outdated):
            dropping.slugs |= slugs
            return True
    return False


def _product_changed(instance: Product, **_: Any) -> None:
    outdate(Sale.objects.filter(offers__product_id=instance.pk).values_list("slug", flat=True))


def _sale_changed(instance: Sale, **_: Any) -> None:
    outdate([instance.slug])


def _offer_changed(instance: Offer, **_: Any) -> None:
    outdate(Sale.objects.filter(pk=instance.sale_id).values_list("slug", flat=True))


def _stock_changed(instance: Stock, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is None or update_fields & _SHOWN_OF_STOCK:
        outdate(Sale.objects.filter(offers=instance.pk).values_list("slug", flat=True))
