"""What every row that is written pays for: indexes."""

import pytest
from django.apps import apps
from django.db import IntegrityError, connection

from inventory import outbox, reservations
from inventory.outcomes import Wish
from shop import orders
from shop.models import Offer, Order
from tests.people import a_crowd, reservation_id

#: The columns of each index of a table that holds all of its rows, by the index's name.
_INDEXES = """
    SELECT relname, string_to_array(indkey::text, ' ') FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
     WHERE indrelid = %s::regclass AND indpred IS NULL
"""


def tables() -> list[str]:
    return [model._meta.db_table for app in ("inventory", "shop") for model in apps.get_app_config(app).get_models()]


@pytest.mark.django_db
@pytest.mark.parametrize("table", tables())
def test_no_index_begins_like_another(table: str) -> None:
    """Django makes one for each foreign key and two for each unique text, whatever else there is."""
    with connection.cursor() as cursor:
        cursor.execute(_INDEXES, [table])
        indexes = dict(cursor.fetchall())

    assert indexes
    for name, columns in indexes.items():
        longer = [other for other, theirs in indexes.items() if other != name and theirs[: len(columns)] == columns]
        assert longer == [], f"{name} holds nothing that {longer} lacks"


def test_two_orders_never_ask_for_the_same_late_reservation(offer: Offer) -> None:
    """And any number of them asks for none."""
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(2)]
    reservations.reserve(offer.pk, wishes)
    outbox.drain(offer.pk, orders.place)
    first, second = Order.objects.all()
    assert first.late_reservation is second.late_reservation is None

    Order.objects.filter(pk=first.pk).update(late_reservation="1-late")
    with pytest.raises(IntegrityError, match="a_late_reservation_has_one_order"):
        Order.objects.filter(pk=second.pk).update(late_reservation="1-late")
