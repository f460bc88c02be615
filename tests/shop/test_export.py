"""Orders as CSV: every one of them, in few trips, and nothing that a spreadsheet would run."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from shop import export
from shop.models import Order, Payment, Sale, SaleEvent
from tests.people import pay
from tests.shop import clicks
from tests.shop.many_orders import many_orders

#: What begins a formula in some spreadsheet.
STARTS = "=+-@\t\r\n"


@pytest.fixture
def staff(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


def exported(staff: Client, sale: Sale) -> list[dict[str, str]]:
    answer: Any = staff.post(f"/admin/console/{sale.slug}/export/")
    assert answer.status_code == 200
    assert answer.streaming
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_order_is_a_row(staff: Client, sale: Sale, make_shopper: Callable[[], Client]) -> None:
    """With who bought it and what was paid; those of other sales are not there. That it was taken is written down."""
    waiting, paid = clicks.order(make_shopper(), sale), clicks.order(make_shopper(), sale)
    Payment.objects.create(order=paid, charge=f"ch_{paid.number}", amount_minor=paid.total_minor, currency="CNY")
    pay(paid)

    rows = exported(staff, sale)

    assert [(row["number"], row["state"], row["charge"]) for row in rows] == [
        (waiting.number, "awaiting_payment", ""),
        (paid.number, "paid", f"ch_{paid.number}"),
    ]
    assert rows[0]["buyer"] == waiting.buyer.get_username()
    assert (rows[0]["total_minor"], rows[0]["currency"]) == ("9900", "CNY")
    assert list(SaleEvent.objects.values_list("act", "sale", "by")) == [("export", sale.slug, "ann")]


def test_no_orders_are_a_heading(staff: Client, sale: Sale) -> None:
    answer: Any = staff.post(f"/admin/console/{sale.slug}/export/")

    assert b"".join(answer.streaming_content).decode("utf-8-sig") == ",".join(export.COLUMNS) + "\r\n"
    assert answer["Content-Disposition"] == f'attachment; filename="orders-{sale.slug}.csv"'


def test_many_orders_take_few_trips(staff: Client, sale: Sale) -> None:
    """Two for each five hundred: rows, and their payments."""
    many_orders(sale, 1_200)

    with CaptureQueriesContext(connection) as captured:
        rows = exported(staff, sale)

    assert len(rows) == 1_200
    asked = [query["sql"] for query in captured if "shop_order" in query["sql"] or "shop_payment" in query["sql"]]
    assert len(asked) <= 1 + 3


@pytest.mark.parametrize(
    "name",
    [
        *(f"{start}cmd|' /C calc'!A0" for start in STARTS),
        "＝1+1",
        " =1+1",
        "\u00a0@SUM(A1)",
        "\u202e=1+1",
        "\u200b=1+1",
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(
    staff: Client, sale: Sale, make_shopper: Callable[[], Client], name: str
) -> None:
    """It begins with an apostrophe, which is how a spreadsheet writes text."""
    clicks.order(make_shopper(), sale)
    Order.objects.update(title=name)

    [row] = exported(staff, sale)

    assert row["title"].startswith("'")
    assert row["title"].endswith(name.strip()[-3:])


@pytest.mark.parametrize(
    "name", ["<b>bold</b>", "𝒳🎉", "שלום", "مرحبا", 'a "quoted", name', "two\nlines", "O'Neill", "1-2"]
)
def test_what_is_harmless_stays_as_it_is(name: str) -> None:
    """Markup, letters of four bytes, letters that are written from right to left."""
    assert export.harmless(name) == name


def test_no_mark_turns_the_rest_around() -> None:
    """Overrides of direction go, which would make `gpj.exe` read as `exe.jpg`."""
    assert export.harmless("a\u202egpj\u2066.exe\u202c") == "agpj.exe"


@given(st.text())
def test_nothing_gets_through(text: str) -> None:
    """Whatever it is, what comes out begins no formula."""
    assert not export.harmless(text).startswith(tuple(STARTS))


def test_numbers_of_ours_stay_numbers() -> None:
    assert [export.harmless(cell) for cell in (9_900, 0, "CNY")] == ["9900", "0", "CNY"]
