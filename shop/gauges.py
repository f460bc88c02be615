"""What is, rather than what happened: looked at every few seconds by a task, and shown as the task last saw it."""

import time
from collections import defaultdict
from datetime import timedelta

from django.db.models.functions import Now

from inventory import drift, lag, stock
from inventory.models import DeadEntry
from resilience.metrics import Gauge
from shop.models import Offer, Sale

#: Offers that are looked at, those that opened last: with three states each, a page of Prometheus stays readable.
OFFERS_MAXIMUM = 100
#: A sale that is over is interesting for so long.
RECENT = timedelta(hours=1)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    """Any worker process may be the next to look: what counts is what the last one saw."""
    return Gauge(name, text, labels, multiprocess_mode="mostrecent")


STOCK = _gauge("shop_stock_units", "Units in Redis, by sale, offer and state.", "sale", "offer", "state")
DRIFT = _gauge("shop_drift_units", "Units by which Redis and PostgreSQL differ, when last nothing moved.", "sale")
WAITING = _gauge("inventory_events_waiting", "Events that PostgreSQL has yet to hear of.")
OLDEST = _gauge("inventory_oldest_event_seconds", "Age of the oldest of them.")
DEAD = _gauge("inventory_dead_events", "Events that made no sense, and wait for a person.")
LOOKED_AT = _gauge("shop_looked_at_seconds", "When all of these were seen, in seconds since 1970.")


def look() -> None:
    """Set them all. Raises what the stores raise: what was seen by then is shown, and `LOOKED_AT` grows old."""
    behind = lag.lag()
    WAITING.set(behind.events)
    OLDEST.set(behind.oldest_ms / 1000)
    sales = _sales_of_offers()
    _look_at_stock(sales)
    _look_at_drift(sales)
    DEAD.set(DeadEntry.objects.filter(resolution="").count())
    LOOKED_AT.set(time.time())


def _sales_of_offers() -> dict[int, str]:
    """Offer id -> its sale, of sales that are open, will open or were open just now."""
    shown = Offer.objects.exclude(sale__state=Sale.State.DRAFT).filter(
        sale__closes_at__gt=Now() - RECENT, stock__archived=False
    )
    return dict(shown.order_by("-sale__opens_at").values_list("pk", "sale__slug")[:OFFERS_MAXIMUM])


def _look_at_stock(sales: dict[int, str]) -> None:
    for offer_id, levels in stock.levels(list(sales)).items():
        if levels:
            for state in ("available", "held", "sold"):
                STOCK.labels(sales[offer_id], str(offer_id), state).set(getattr(levels, state))


def _look_at_drift(sales: dict[int, str]) -> None:
    units: dict[str, int] = defaultdict(int)
    for offer_id, differ in drift.drift(list(sales)).items():
        units[sales[offer_id]] += differ
    for sale, differ in units.items():
        DRIFT.labels(sale).set(differ)
