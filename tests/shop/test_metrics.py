"""What is counted of pages and caches, and that counting takes no page with it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client
from prometheus_client import REGISTRY

from shop import answer_times
from shop.models import Sale
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

    monkeypatch.setattr(answer_times, "_times", broken)
    with caplog.at_level(logging.ERROR, "shop.answer_times"):
        assert client.get("/livez").status_code == 200

    assert "an answer was not counted" in caplog.text


def test_reads_of_the_cache_are_counted_by_tier(sale: Sale, client: Client) -> None:
    """Loads at once; hits in memory, which are too many, when they are next reported."""
    cache: Any = caches["default"]
    cache.stack.tallies.report()
    counted, told = cache.tally(), {event: reads(event) for event in cache.tally()}

    for _ in range(5):
        client.get(f"/sales/{sale.slug}/")
    cache.stack.tallies.report()

    more = {event: number - counted[event] for event, number in cache.tally().items()}
    assert {event: reads(event) - told[event] for event in more} == more
    assert more["loads"] >= 2
    assert more["memory"] >= 4
