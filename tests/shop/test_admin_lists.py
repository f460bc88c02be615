"""Lists of the back office at ten thousand orders: as many statements as for one, and no count of a long table."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import inventory.admin
from inventory.models import Reservation, Stock
from shop import sale_events
from shop.models import Offer, Order, Payment, Product, Sale, SaleEvent
from tests.shop.many_orders import many_orders

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = 10_000
#: Statements of a list: two to know who asks, two to know how many rows there are, and the rows. Products are counted
#: with and without a filter, and have their currencies to filter by.
EXPECTED: dict[type[Model], int] = {Order: 5, Payment: 5, Reservation: 5, SaleEvent: 5, Stock: 5, Offer: 5, Product: 6}


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def statements(staff: Client, model: type[Model], **query: Any) -> list[str]:
    url = reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")
    with CaptureQueriesContext(connection) as captured:
        assert staff.get(url, query).status_code == 200
    return [query["sql"] for query in captured]


def test_lists_at_ten_thousand_orders(staff: Client, sale: Sale, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes what it takes; beyond so many rows it is no longer counted, and a search still is."""
    many_orders(sale, ORDERS)
    for number in range(3):
        sale_events.by_staff("boss", "pause", sale.slug, detail=str(number))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")

    for model, expected in EXPECTED.items():
        taken = statements(staff, model)
        assert len(taken) <= expected, (model, taken)
    assert len(statements(staff, Sale)) <= 8  # with the first and the last date, for the line above the list

    assert any("COUNT(*)" in each for each in statements(staff, Order))
    monkeypatch.setattr(inventory.admin, "COUNTED_MAXIMUM", 1_000)
    assert not any("COUNT(*)" in each for each in statements(staff, Order))
    assert any("COUNT(*)" in each for each in statements(staff, Order, state__exact="paid"))
    assert "10000 orders" in staff.get(reverse("admin:shop_order_changelist")).content.decode()
