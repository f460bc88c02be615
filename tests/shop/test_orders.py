"""The buyer's orders: to look at, to pay, to cancel, and nobody else's."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inventory import reservations
from inventory.models import Reservation
from resilience.clock import now_ms
from shop import buyers, orders
from shop.models import Offer, Order, Sale
from shop.views.orders import POLL_MS
from tests.crowd import at_once
from tests.shop import clicks
from tests.shop.clicks import JSON, PAGE

MakeShopper = Callable[[], Client]
MakeSale = Callable[..., Sale]


@pytest.fixture
def order(sale: Sale, shopper: Client) -> Order:
    """The shopper's, awaiting its payment."""
    return clicks.order(shopper, sale)


def test_an_order_says_what_was_bought(make_sale: MakeSale, shopper: Client) -> None:
    """Product, units, sum, state, and the time that is left to pay."""
    order = clicks.order(shopper, make_sale(limit=3), units=3)

    answer = shopper.get(f"/orders/{order.number}/", headers=JSON)

    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert answer.json()["poll_after_ms"] == POLL_MS
    told = answer.json()["order"]
    assert (told["number"], told["title"], told["units"]) == (order.number, order.offer.product.title, 3)
    assert (told["total_minor"], told["currency"], told["state"]) == (29_700, "CNY", "awaiting_payment")
    assert (told["can_pay"], told["can_cancel"]) == (True, True)
    assert now_ms() + 50_000 < told["pay_until_ms"] <= now_ms() + 60_000
    assert [text for _, text in told["history"]] == ["Order placed"]


def test_an_order_is_a_page_for_people(order: Order, shopper: Client) -> None:
    """The same facts, with a button to pay and one to cancel."""
    page = shopper.get(f"/orders/{order.number}/", headers=PAGE)

    assert page.status_code == 200
    assert page["Cache-Control"] == "no-store"
    text = page.content.decode()
    assert order.number in text
    assert "99.00" in text
    assert f'action="/orders/{order.number}/pay"' in text
    assert f'action="/orders/{order.number}/cancel"' in text


def test_the_price_is_the_one_it_was_bought_at(order: Order, offer: Offer, shopper: Client) -> None:
    """Staff may change an offer and its product; an order stays what it was."""
    Offer.objects.update(price_minor=1)
    title, offer.product.title = offer.product.title, "Another"
    offer.product.save()

    told = shopper.get(f"/orders/{order.number}/", headers=JSON).json()["order"]

    assert (told["total_minor"], told["title"]) == (9_900, title)


def test_the_list_is_the_buyers_own(make_sale: MakeSale, make_shopper: MakeShopper) -> None:
    """The newest first, as JSON and as a page; nobody else's among them."""
    shopper, other = make_shopper(), make_shopper()
    numbers = [clicks.order(shopper, make_sale()).number for _ in range(3)]
    theirs = clicks.order(other, make_sale()).number

    answer, page = shopper.get("/orders/", headers=JSON), shopper.get("/orders/", headers=PAGE)

    assert [order["number"] for order in answer.json()["orders"]] == numbers[::-1]
    text = page.content.decode()
    assert all(f'href="/orders/{number}/"' in text for number in numbers)
    assert theirs not in text
    assert answer["Cache-Control"] == page["Cache-Control"] == "no-store"
    assert make_shopper().get("/orders/", headers=JSON).json() == {"orders": []}


def test_orders_cost_one_query(make_sale: MakeSale, shopper: Client) -> None:
    """However many are on the list, and one on its own page, for a script and for a person."""
    costs = set()
    for _ in range(3):
        order = clicks.order(shopper, make_sale())
        for path, accept in product(("/orders/", f"/orders/{order.number}/"), (JSON, PAGE)):
            with CaptureQueriesContext(connection) as queries:
                assert shopper.get(path, headers=accept).status_code == 200
            costs.add(len(queries))

    assert costs == {1}


@pytest.mark.parametrize("accept", [JSON, PAGE])
def test_somebody_elses_order_does_not_exist(
    order: Order, make_shopper: MakeShopper, stock_redis: redis.Redis, accept: dict[str, str]
) -> None:
    """404 to look at, to pay and to cancel, in the same words as for a number that never was; nothing changes."""
    thief = make_shopper()
    before = clicks.everything(stock_redis)

    for number in (order.number, order.number.lower(), "0" * 12):
        answers = [
            thief.get(f"/orders/{number}/", headers=accept),
            thief.post(f"/orders/{number}/pay", headers=accept),
            thief.post(f"/orders/{number}/cancel", headers=accept),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        if accept is JSON:
            assert {answer.json()["outcome"] for answer in answers} == {"NOT_FOUND"}
            assert len({answer.content for answer in answers}) == 1
    assert clicks.everything(stock_redis) == before


def test_strangers_sign_in_first(order: Order, client: Client) -> None:
    """401 for a script; a person is led to the form, and from there back to the order."""
    url = f"/orders/{order.number}/"
    for path, back in (("/orders/", "/orders/"), (url, url)):
        assert client.get(path, headers=JSON).json()["outcome"] == "SIGN_IN"
        led = client.get(path, headers=PAGE)
        assert (led.status_code, led["Location"]) == (303, f"/accounts/login/?next={back}")
    for verb in ("pay", "cancel"):
        assert clicks.send(client, url + verb).status_code == 401
        assert client.post(url + verb, headers=PAGE)["Location"] == f"/accounts/login/?next={url}"


def test_the_way_back_is_one_parameter(client: Client) -> None:
    """What is odd in an address stays inside `next`, and smuggles no second one beside it."""
    led = client.get("/orders/a%26next=evil%23/", headers=PAGE)

    assert led["Location"] == "/accounts/login/?next=/orders/a%26next%3Devil%23/"


def test_cancelling_puts_the_units_back(make_sale: MakeSale, shopper: Client) -> None:
    """At once in PostgreSQL, and in Redis when the effect is applied; the order says so."""
    sale = make_sale(limit=3)
    order, offer = clicks.order(shopper, sale, units=2), sale.offers.get()
    assert clicks.counters(offer) == (18, 2, 0)

    answer = clicks.send(shopper, f"/orders/{order.number}/cancel")

    assert (answer.status_code, answer.json()["order"]["state"]) == (200, "cancelled")
    assert (answer.json()["order"]["can_pay"], answer.json()["order"]["can_cancel"]) == (False, False)
    assert clicks.counters(offer) == (20, 0, 0)


def test_a_person_who_cancels_comes_back_to_the_order(order: Order, shopper: Client) -> None:
    """303 to its page, which has no buttons any more."""
    led = shopper.post(f"/orders/{order.number}/cancel", headers=PAGE)

    assert (led.status_code, led["Location"]) == (303, f"/orders/{order.number}/")
    assert "/cancel" not in shopper.get(led["Location"], headers=PAGE).content.decode()


def test_cancelling_twice_is_too_late(order: Order, offer: Offer, shopper: Client) -> None:
    """409, also for eight at once, of which one wins; the unit comes back once."""
    tabs = [Client() for _ in range(8)]
    for tab in tabs:
        tab.cookies[buyers.COOKIE] = shopper.cookies[buyers.COOKIE].value

    words = at_once(tabs, lambda tab: clicks.send(tab, f"/orders/{order.number}/cancel").status_code)

    assert sorted(words) == [200] + [409] * 7
    again = clicks.send(shopper, f"/orders/{order.number}/cancel")
    assert (again.status_code, again.json()["outcome"]) == (409, "NO_LONGER")
    assert shopper.post(f"/orders/{order.number}/cancel", headers=PAGE).status_code == 409
    assert clicks.counters(offer) == (20, 0, 0)


@pytest.mark.parametrize("ending", ["paid", "expired", "cancelled"])
def test_what_has_ended_is_not_paid_or_cancelled(order: Order, shopper: Client, ending: str) -> None:
    """409 NO_LONGER for both, with the way back to the order, whose history says how it ended."""
    match ending:
        case "paid":
            orders.pay(order)
        case "cancelled":
            orders.cancel(order)
        case "expired":
            Reservation.objects.update(expires_at=order.placed_at)
            reservations.expire_due(orders.expire)

    for verb in ("pay", "cancel"):
        assert clicks.send(shopper, f"/orders/{order.number}/{verb}").json()["outcome"] == "NO_LONGER"
        page = shopper.post(f"/orders/{order.number}/{verb}", headers=PAGE)
        assert page.status_code == 409
        assert f'href="/orders/{order.number}/"' in page.content.decode()
    told = shopper.get(f"/orders/{order.number}/", headers=JSON).json()["order"]
    assert (told["state"], told["pay_until_ms"], told["can_pay"]) == (ending, None, False)
    assert len(told["history"]) == 2


def test_back_soon_while_postgresql_is_away(
    order: Order, shopper: Client, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Orders and sign-in need PostgreSQL: 503 with a sentence and a Retry-After, and the rest of the shop goes on."""
    shopper.get("/")
    cookie, url = shopper.cookies[buyers.COOKIE].value, f"/orders/{order.number}/"
    account = {"username": "x", "password": "y", "password1": "Aqueduct-7", "password2": "Aqueduct-7"}
    requests: list[tuple[str, str, dict[str, str] | None]] = [
        *(("GET", "/orders/", None), ("GET", url, None), ("POST", f"{url}pay", {}), ("POST", f"{url}cancel", {})),
        *(("POST", "/accounts/login/", account), ("POST", "/accounts/signup/", account)),
    ]

    def ask(request: tuple[str, str, dict[str, str] | None]) -> Any:
        client, (method, path, fields) = Client(), request
        client.cookies[buyers.COOKIE] = cookie
        return client.get(path, headers=JSON) if method == "GET" else client.post(path, fields, headers=JSON)

    with frozen("postgresql"):
        answers = at_once(requests, ask)
        assert shopper.get("/").status_code == 200

    for answer in answers:
        assert (answer.status_code, answer.json()["outcome"]) == (503, "BUSY")
        assert int(answer["Retry-After"]) > 0
