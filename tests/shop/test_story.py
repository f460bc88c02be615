"""From a click to its row: what an operator finds who has nothing but the request's id, or a buyer to look after."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilience import quiet_logging
from resilience.log_lines import JsonLines, relabel
from shop.models import Order, Sale
from tests.conftest import Shopper
from tests.shop import clicks

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """All lines so far, as the shop writes them."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    logging.root.addHandler(handler)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logging.root.removeHandler(handler)


@pytest.fixture
def at_info() -> Iterator[None]:
    before = logging.root.level
    logging.root.setLevel(logging.INFO)
    yield
    logging.root.setLevel(before)


def grep(text: str, lines: Lines) -> list[str]:
    return [line["message"] for line in lines() if text in json.dumps(line)]


def test_two_searches_tell_the_whole_story(sale: Sale, shopper: Shopper, lines: Lines, at_info: None) -> None:
    """The request's id finds the click, whose line names the reservation, which finds all others."""
    ticket = clicks.ticket(shopper, sale)
    answer = shopper.post(
        f"/sales/{sale.slug}/buy",
        {"ticket": ticket},
        content_type="application/json",
        headers={**clicks.JSON, "x-request-id": "the-click-of-anna"},
    )
    relabel(task="a-drain-of-some-worker")
    clicks.record(sale.offers.get())
    order = Order.objects.get(reservation=answer.json()["reservation"])

    [click] = [line for line in lines() if line.get("request") == "the-click-of-anna" and "reservation" in line]
    assert click["message"] == "RESERVED: 1 units"
    assert (click["sale"], click["buyer"]) == (sale.slug, str(shopper.user.pk))
    assert grep(click["reservation"], lines) == ["RESERVED: 1 units", f"written down as order {order.number}"]


def test_of_somebody_watched_both_ends_are_told(sale: Sale, make_shopper: Callable[[], Shopper], lines: Lines) -> None:
    """Among others who are not, while the log is as quiet as usual."""
    anna, others = make_shopper(), [make_shopper() for _ in range(3)]
    quiet_logging.install(quiet_logging.Gate(watched=[f"buyer:{anna.user.pk}"]))
    try:
        for shopper in (*others, anna):
            clicks.hold(shopper, sale)
        clicks.record(sale.offers.get())
    finally:
        quiet_logging.install(None)

    order = Order.objects.get(buyer_id=anna.user.pk)
    told = [line["message"] for line in lines() if line["logger"] in ("shop.buying", "inventory.outbox")]
    assert told == ["RESERVED: 1 units", f"written down as order {order.number}"]


def test_a_quiet_log_has_no_line_of_a_click(sale: Sale, shopper: Shopper, lines: Lines) -> None:
    """A hundred thousand clicks a second are no news."""
    clicks.hold(shopper, sale)
    clicks.record(sale.offers.get())

    assert [line for line in lines() if line["logger"] in ("shop.buying", "inventory.outbox")] == []
