"""What is counted of pages and caches, and that counting takes no page with it."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.core.cache import caches
from django.db import transaction
from django.test import Client
from prometheus_client import REGISTRY, CollectorRegistry

from inventory import drift
from inventory.models import DeadEntry, Reservation, Stock
from inventory.outcomes import InventoryUnavailable, Recorded
from shop import answer_times, catalog, funnel, gauges, orders, tasks
from shop.models import Offer, Order, Sale
from tests.crowd import eventually
from tests.shop import clicks


def answered(view: str, method: str = "GET", status: int = 200) -> float:
    """Answers that were counted so far."""
    labels = {"lane": "all", "view": view, "method": method, "status": str(status)}
    return REGISTRY.get_sample_value("http_answer_seconds_count", labels) or 0.0


def reads(event: str) -> float:
    return REGISTRY.get_sample_value("cache_reads_total", {"event": event}) or 0.0


def test_answers_are_counted_by_view_method_and_status(sale: Sale, make_shopper: Callable[[], Client]) -> None:
    """By the view's name, not by the address: a thousand sales are one line of a dashboard."""
    shopper = make_shopper()
    page, ticket, buy = answered("sale"), answered("ticket", "POST"), answered("buy", "POST", 202)

    shopper.get(f"/sales/{sale.slug}/")
    clicks.hold(shopper, sale)

    assert (answered("sale"), answered("ticket", "POST"), answered("buy", "POST", 202)) == (
        page + 1,
        ticket + 1,
        buy + 1,
    )


def test_strange_requests_make_no_names_of_their_own(client: Client, db: None) -> None:
    """A thousand addresses and methods that do not exist are one series."""
    missing, other = answered("none", status=404), answered("sales", "other", 405)

    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.generic(f"METHOD{number}", "/")

    assert answered("none", status=404) == missing + 20
    assert answered("sales", "other", 405) == other + 20


def test_an_error_is_an_answer(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that breaks is counted as what its visitor saw."""
    client.raise_request_exception = False
    before = answered("sales", status=500)
    monkeypatch.setattr("shop.catalog.sales", lambda: 1 / 0)
    caches["default"].clear()

    assert client.get("/").status_code == 500
    assert answered("sales", status=500) == before + 1


def test_what_cannot_be_counted_is_answered(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder of the numbers is gone, say: the page comes, and the log says that it was not counted."""

    def broken(*_: object) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(answer_times, "times_of", broken)
    with caplog.at_level(logging.ERROR, "shop.answer_times"):
        assert client.get("/livez").status_code == 200

    assert "an answer was not counted" in caplog.text


def test_reads_of_the_cache_are_counted_by_tier(sale: Sale, client: Client) -> None:
    """Loads at once; hits in memory, which are too many, when they are next reported."""
    cache: Any = caches["default"]
    cache.stack.tallies.report()
    counted, told = cache.tally(), {event: reads(event) for event in cache.tally()}

    client.get(f"/sales/{sale.slug}/")
    for _ in range(5):
        catalog.facts(sale.slug)
    cache.stack.tallies.report()

    more = {event: number - counted[event] for event, number in cache.tally().items()}
    assert {event: reads(event) - told[event] for event in more} == more
    assert more["loads"] >= 2
    assert more["memory"] >= 4


def counted(sale: Sale) -> dict[str, float]:
    """The funnel of a sale, without the steps that nobody took."""
    samples = [sample for metric in funnel.FUNNEL.collect() for sample in metric.samples]
    return {
        sample.labels["step"]: sample.value
        for sample in samples
        if sample.name == "shop_funnel_total" and sample.labels["sale"] == sale.slug
    }


def test_the_funnel_tells_where_buyers_get_lost(
    make_sale: Callable[..., Sale], make_shopper: Callable[[], Client]
) -> None:
    """Two units, three buyers: one pays, one gives the unit back, one came too late with a ticket. A ticket that is
    used again is an attempt and no second reservation; a drain that repeats itself places nothing twice."""
    sale = make_sale(quantity=2)
    payer, leaver, late = make_shopper(), make_shopper(), make_shopper()
    permission, too_late = clicks.ticket(payer, sale), clicks.ticket(late, sale)
    for _ in range(2):
        clicks.buy(payer, sale, permission)
    clicks.hold(leaver, sale)
    clicks.buy(late, sale, too_late)
    clicks.record(sale.offers.get())

    paid, left = Order.objects.get(buyer_id=payer.user.pk), Order.objects.get(buyer_id=leaver.user.pk)
    rows = Reservation.objects.filter(pk=paid.reservation_id).values_list(*Recorded._fields)
    orders.place([Recorded._make(row) for row in rows])
    orders.pay(paid)
    orders.cancel(left)

    steps = {"ticket": 3, "attempt": 4, "reserved": 2, "repeated": 1, "sold_out": 1}
    assert counted(sale) == {**steps, "placed": 2, "paid": 1, "cancelled": 1}


def test_holds_that_run_out_are_counted(make_sale: Callable[..., Sale], make_shopper: Callable[[], Client]) -> None:
    """By the sweep that ends them."""
    sale = make_sale(hold=1)
    clicks.order(make_shopper(), sale)
    eventually(lambda: tasks.expire())

    assert counted(sale)["expired"] == 1


def test_a_step_that_is_rolled_back_is_none(sale: Sale, shopper: Client) -> None:
    """Money came, and the transaction that would have told so was lost."""
    order = clicks.order(shopper, sale)

    with suppress(ZeroDivisionError), transaction.atomic():
        orders.pay(order)
        raise ZeroDivisionError

    assert "paid" not in counted(sale)


def test_sales_without_end_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives for years does not grow with each sale."""
    monkeypatch.setattr(funnel, "SALES_MAXIMUM", 0)
    before = REGISTRY.get_sample_value("shop_funnel_total", {"sale": funnel.OTHERS, "step": "ticket"}) or 0

    for number in range(10):
        funnel.count(f"one-of-many-{number}", "ticket")

    assert REGISTRY.get_sample_value("shop_funnel_total", {"sale": funnel.OTHERS, "step": "ticket"}) == before + 10
    assert REGISTRY.get_sample_value("shop_funnel_total", {"sale": "one-of-many-1", "step": "ticket"}) is None


def test_a_click_that_cannot_be_counted_is_answered(
    sale: Sale, shopper: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation is worth more than its number."""
    monkeypatch.setattr(funnel, "_bind", lambda *_: 1 / 0)
    monkeypatch.setattr(funnel, "_bound", {})

    clicks.hold(shopper, sale)
    assert clicks.record(sale.offers.get()) == 1


def gauge(name: str, **labels: str) -> float | None:
    """As `/metrics` shows it."""
    registry = CollectorRegistry()
    registry.register(gauges.LastSeen())
    return registry.get_sample_value(name, labels)


def test_gauges_show_stock_and_what_waits(sale: Sale, offer: Offer, make_shopper: Callable[[], Client]) -> None:
    """As Redis counts it, and how far PostgreSQL is behind."""
    for _ in range(3):
        clicks.hold(make_shopper(), sale)
    DeadEntry.objects.create(stock_id=offer.pk, stream_id="1-1", payload={}, error="no such type")
    where = {"sale": sale.slug, "offer": str(offer.pk)}

    tasks.look()

    assert [gauge("shop_stock_units", **where, state=state) for state in ("available", "held", "sold")] == [17, 3, 0]
    assert gauge("inventory_events_waiting") == 3
    assert gauge("inventory_oldest_event_seconds") is not None
    assert gauge("inventory_dead_events") == 1
    assert time.time() - (gauge("shop_looked_at_seconds") or 0) < 60


def test_drift_is_told_when_nothing_moves(sale: Sale, offer: Offer, shopper: Client) -> None:
    """An event on its way is no drift. A counter that somebody changed is, also before it is repaired."""
    clicks.hold(shopper, sale)
    assert drift.drift([offer.pk]) == {}
    clicks.record(offer)
    assert drift.drift([offer.pk]) == {offer.pk: 0}

    Stock.objects.filter(pk=offer.pk).update(held=0)
    tasks.look()

    assert drift.drift([offer.pk]) == {offer.pk: 1}
    assert gauge("shop_drift_units", sale=sale.slug) == 1


def test_drift_is_remembered_while_something_moves(
    sale: Sale, offer: Offer, make_shopper: Callable[[], Client]
) -> None:
    """A sale that sells all the time would never show what was found before."""
    Stock.objects.filter(pk=offer.pk).update(held=2)
    tasks.look()
    clicks.hold(make_shopper(), sale)

    tasks.look()

    assert gauge("shop_drift_units", sale=sale.slug) == 2


def test_gauges_grow_old_while_nobody_can_look(
    client: Client, sale: Sale, stock_redis_away: Callable[[], None]
) -> None:
    """Redis is away: the values stay for a while, and the time at which they were seen tells their age. Then they are
    gone, which an alert asks for."""
    tasks.look()
    seen = gauge("shop_looked_at_seconds")
    stock_redis_away()

    with pytest.raises(InventoryUnavailable):
        gauges.look()

    assert gauge("shop_looked_at_seconds") == seen
    caches["default"].clear()
    assert gauge("shop_looked_at_seconds") is None
    assert b"# HELP shop_looked_at_seconds" in client.get("/metrics").content


def test_what_another_version_saw_hides_no_other_number(
    client: Client, sale: Sale, caplog: pytest.LogCaptureFixture
) -> None:
    """While a new version is rolled out, its worker may have seen what this process does not know."""
    caches["default"].set(gauges._SEEN, [["a_gauge_of_tomorrow", [], 1]])

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert b"http_answer_seconds_count" in answer.content
    assert "the gauges cannot be shown" in caplog.text
