"""What shoppers do in these tests, in one word each, and what must be the same before and after."""

from typing import Any

from django.db import connection
from django.test import Client
from redis import Redis

from inventory import effects, outbox, stock
from inventory.models import Stock
from shop import orders
from shop.models import Offer, Order, Sale

JSON = {"accept": "application/json"}
PAGE = {"accept": "text/html"}

#: Every table whose rows a bad request might touch. The user's `last_login` is none of them.
TABLES = (
    *("inventory_stock", "inventory_reservation", "inventory_effect", "inventory_deadentry"),
    *("shop_sale", "shop_offer", "shop_order", "shop_payment", "shop_providerevent", "auth_user"),
)


def send(client: Client, url: str, **fields: Any) -> Any:
    """POST as a page's script does."""
    return client.post(url, fields, content_type="application/json", headers=JSON)


def ticket(shopper: Client, sale: Sale, **fields: Any) -> str:
    """A ticket for the sale's only offer, or for the one that is named."""
    return str(send(shopper, f"/sales/{sale.slug}/ticket", **fields).json()["ticket"])


def buy(shopper: Client, sale: Sale, with_ticket: str = "", **fields: Any) -> Any:
    """The answer to a click, with a new ticket unless one is given."""
    return send(shopper, f"/sales/{sale.slug}/buy", ticket=with_ticket or ticket(shopper, sale), **fields)


def hold(shopper: Client, sale: Sale, **fields: Any) -> dict[str, Any]:
    """A reservation, as the answer describes it."""
    answer = buy(shopper, sale, **fields)
    assert answer.status_code == 202, answer.content
    return dict(answer.json())


def record(offer: Offer) -> int:
    """PostgreSQL hears of everything that is held."""
    return outbox.drain(offer.pk, orders.place)


def order(shopper: Client, sale: Sale, **fields: Any) -> Order:
    """An order that awaits its payment."""
    held = hold(shopper, sale, **fields)
    record(sale.offers.get())
    return Order.objects.get(reservation=held["reservation"])


def counters(offer: Offer) -> tuple[int, int, int]:
    """Units available, held and sold; PostgreSQL and Redis agree on them once effects are applied."""
    effects.apply_pending()
    row, levels = Stock.objects.get(pk=offer.pk), stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert (row.available, row.held, row.sold) == (levels.available, levels.held, levels.sold)
    return row.available, row.held, row.sold


def everything(stock_redis: Redis) -> dict[str, Any]:
    """All that PostgreSQL and stock Redis hold, to compare."""
    found: dict[str, Any] = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            found[table] = cursor.fetchall()
    for key in sorted(stock_redis.scan_iter()):
        hashed = stock_redis.type(key) == "hash"
        found[key] = stock_redis.hgetall(key) if hashed else stock_redis.xrange(key)
    return found
