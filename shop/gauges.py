"""What is, rather than what happened: looked at every few seconds by a task, and shown by whichever process is asked.

What was seen travels through the cache and ends there by itself. As gauges of the worker it would stay for ever, with
each sale that there ever was.
"""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta

from django.core.cache import cache
from django.db.models.functions import Now
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inventory import drift, lag, stock
from inventory.models import DeadEntry
from shop.models import Offer, Sale

#: Offers that are looked at, those that opened last: with three states each, a page of Prometheus stays readable.
OFFERS_MAXIMUM = 100
#: A sale that is over is interesting for so long.
RECENT = timedelta(hours=1)
#: Seconds that what was seen is shown.
SHOWN_SECONDS = 60

_SEEN, _DRIFT = "gauges:seen", "gauges:drift"

#: Name -> what it is, and its labels.
GAUGES = {
    "shop_stock_units": ("Units in Redis, by sale, offer and state.", ("sale", "offer", "state")),
    "shop_drift_units": ("Units by which Redis and PostgreSQL differ, when last nothing moved.", ("sale",)),
    "inventory_events_waiting": ("Events that PostgreSQL has yet to hear of.", ()),
    "inventory_oldest_event_seconds": ("Age of the oldest of them.", ()),
    "inventory_dead_events": ("Events that made no sense, and wait for a person.", ()),
    "shop_looked_at_seconds": ("When all of these were seen, in seconds since 1970.", ()),
}

#: The name of a gauge, the values of its labels, its value.
Seen = tuple[str, list[str], float]

logger = logging.getLogger(__name__)


def look() -> None:
    """Look at everything, and show it. Raises what the stores raise: then what was seen before grows old, and ends."""
    behind, sales = lag.lag(), _sales_of_offers()
    seen: list[Seen] = [
        ("inventory_events_waiting", [], behind.events),
        ("inventory_oldest_event_seconds", [], behind.oldest_ms / 1000),
        ("inventory_dead_events", [], DeadEntry.objects.filter(resolution="").count()),
        *_stock(sales),
        *_drift(sales),
        ("shop_looked_at_seconds", [], time.time()),
    ]
    cache.set(_SEEN, seen, SHOWN_SECONDS)


def _sales_of_offers() -> dict[int, str]:
    """Offer id -> its sale, of sales that are open, will open or were open just now."""
    shown = Offer.objects.exclude(sale__state=Sale.State.DRAFT).filter(
        sale__closes_at__gt=Now() - RECENT, stock__archived=False
    )
    return dict(shown.order_by("-sale__opens_at").values_list("pk", "sale__slug")[:OFFERS_MAXIMUM])


def _stock(sales: dict[int, str]) -> list[Seen]:
    known = [(pk, levels) for pk, levels in stock.levels(list(sales)).items() if levels]
    return [
        ("shop_stock_units", [sales[pk], str(pk), state], getattr(levels, state))
        for pk, levels in known
        for state in ("available", "held", "sold")
    ]


def _drift(sales: dict[int, str]) -> list[Seen]:
    """Of an offer that sells at this moment, what it was when last nothing moved."""
    last_known = {int(pk): units for pk, units in (cache.get(_DRIFT) or {}).items() if int(pk) in sales}
    units = last_known | drift.drift(list(sales))
    cache.set(_DRIFT, units, RECENT.total_seconds())
    of_sales = dict.fromkeys((sales[pk] for pk in units), 0)
    for pk, differ in units.items():
        of_sales[sales[pk]] += differ
    return [("shop_drift_units", [sale], differ) for sale, differ in of_sales.items()]


def last() -> list[Seen]:
    """What was seen last; nothing when nobody looked for a minute. Raises what the caches raise."""
    return cache.get(_SEEN) or []


class LastSeen(Collector):
    """For Prometheus: what a worker saw in the last minute. Nothing when nobody looked, or the caches are away."""

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return self._families().values()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = self._families()
        try:
            for name, labels, value in last():
                families[name].add_metric(labels, value)
        except Exception:
            logger.exception("the gauges cannot be shown")
        return families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in GAUGES.items()}
