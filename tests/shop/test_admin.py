"""The back office, page by page: everything can be looked at, little can be typed, and what is typed is checked."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from inventory import outbox, reservations, stock
from inventory.models import BuyerUnits, Claim, DeadEntry, Effect, Reservation, Stock, StockChange
from inventory.outcomes import AnswerLost, InventoryUnavailable, Wish
from shop import admin, catalog, opening
from shop.models import Offer, Order, Payment, Product, ProviderEvent, Sale, SaleEvent
from tests.crowd import eventually

pytestmark = pytest.mark.django_db(transaction=True)

READ_ONLY = [
    *(Offer, Order, Payment, ProviderEvent),
    *(Stock, Reservation, Effect, DeadEntry, BuyerUnits, StockChange, Claim),
]

_numbers = itertools.count(1)


@pytest.fixture
def staff(db: None) -> Client:
    """A browser in which a superuser is signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def lamp(db: None) -> Product:
    return Product.objects.create(title="Halo lamp", picture="shop/products/lamp.svg", list_price_minor=20_000)


def a_draft(product: Product, *, opens_in: timedelta = timedelta(hours=-1)) -> Sale:
    """A draft of five units, open now unless told otherwise once it is scheduled."""
    number, opens_at = next(_numbers), timezone.now() + opens_in
    sale = Sale.objects.create(
        slug=f"back-office-{number}", title=f"Sale {number}", opens_at=opens_at, closes_at=opens_at + timedelta(hours=9)
    )
    opening.add_offer(sale, product, price_minor=9_900, quantity=5)
    return sale


def a_scheduled_sale(product: Product) -> Sale:
    sale = a_draft(product)
    opening.schedule(sale)
    return sale


def an_order(offer: Offer, buyer: User) -> Order:
    """An order awaiting payment, as the drain leaves it in PostgreSQL."""
    soon = timezone.now() + timedelta(minutes=10)
    reservation = Reservation.objects.create(
        id=f"{offer.pk}-nonce{next(_numbers)}",
        stock=offer.stock,
        buyer_id=buyer.pk,
        units=1,
        reserved_at=timezone.now(),
        expires_at=soon,
    )
    Stock.objects.filter(pk=offer.pk).update(held=Reservation.objects.filter(stock=offer.pk).count())
    return Order.objects.create(
        reservation=reservation,
        buyer=buyer,
        offer=offer,
        title=offer.product.title,
        units=1,
        total_minor=9_900,
        currency="CNY",
        pay_until=soon,
    )


@pytest.fixture
def order(lamp: Product) -> Order:
    """An order awaiting payment, and a row in each table that keeps the record."""
    offer = a_scheduled_sale(lamp).offers.get()
    order = an_order(offer, User.objects.create(username="ann"))
    Payment.objects.create(order=order, charge="ch_1", pay_url="http://x/1", amount_minor=9_900, currency="CNY")
    ProviderEvent.objects.create(event_id="ev_1", kind="charge.failed", payload={"charge": "ch_1"})
    Effect.objects.create(reservation_id=f"{offer.pk}-gone", stock=offer.stock, kind=Effect.Kind.REFUSE, epoch=1)
    Effect.objects.create(reservation_id=order.reservation_id, stock=offer.stock, kind=Effect.Kind.EXPIRE, epoch=1)
    DeadEntry.objects.create(stock=offer.stock, stream_id="1-1", payload={"odd": 1}, error="makes no sense")
    BuyerUnits.objects.create(stock=offer.stock, buyer_id=order.buyer_id, units=1, unit_limit=1)
    Claim.objects.create(reservation_id="1-x", stock=offer.stock, buyer_id=1, units=1, epoch=1, reserved_at_ms=1)
    return order


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


def page_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])


def act(staff: Client, action: str, *rows: Model) -> list[str]:
    """Tick the rows, press the action, and again where a page asks; answers what the page says about it."""
    fields = {"action": action, "_selected_action": [row.pk for row in rows], "confirmed": "yes"}
    return said(staff.post(list_of(type(rows[0])), fields, follow=True))


def said(answer: Any) -> list[str]:
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def sale_form(*offers: dict[str, Any], stored: int = 0, **changed: Any) -> dict[str, Any]:
    """What the browser sends for a sale; the first `stored` of the offers are there already."""
    fields = {
        "title": "Winter",
        "slug": "winter",
        "opens_at_0": "2030-01-01",
        "opens_at_1": "10:00:00",
        "closes_at_0": "2030-01-02",
        "closes_at_1": "10:00:00",
        "offers-TOTAL_FORMS": len(offers),
        "offers-INITIAL_FORMS": stored,
        **changed,
    }
    for number, offer in enumerate(offers):
        fields |= {f"offers-{number}-{name}": value for name, value in offer.items()}
    return fields


def title_form(**changed: Any) -> dict[str, Any]:
    """What the browser sends for a published sale."""
    return {"title": "Winter", "offers-TOTAL_FORMS": 0, "offers-INITIAL_FORMS": 0, **changed}


def offer_row(product: Product, /, **changed: Any) -> dict[str, Any]:
    return {
        "product": product.pk,
        "price_minor": 9_900,
        "quantity": 5,
        "unit_limit": 2,
        "hold_seconds": 60,
        **changed,
    }


def stored_row(offer: Offer, /, **changed: Any) -> dict[str, Any]:
    return {**offer_row(offer.product), "stock": offer.pk, "sale": offer.sale_id, **changed}


def errors(answer: Any) -> str:
    """The errors that a form shows; a form without any has sent the browser on."""
    assert answer.status_code == 200
    return str(answer.context["errors"])


# --- Looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Product, Sale, *READ_ONLY])
def test_every_page_opens(staff: Client, order: Order, model: type[Model]) -> None:
    """The list of every model, a search in it, and the page and history of every row."""
    assert staff.get(list_of(model)).status_code == 200
    for words in ("ann", "7", "what nobody has"):
        assert staff.get(list_of(model), {"q": words}).status_code == 200
    assert model.objects.exists()
    for row in model.objects.all():
        assert staff.get(page_of(row)).status_code == 200
        assert staff.get(page_of(row).replace("/change/", "/history/")).status_code == 200


def test_the_form_of_a_draft_opens(staff: Client, lamp: Product) -> None:
    """Empty, and filled with what is stored."""
    assert staff.get(reverse("admin:shop_sale_add")).status_code == 200
    assert b'value="5"' in staff.get(page_of(a_draft(lamp))).content


@pytest.mark.parametrize("words", ["ann", "ch_1", "NUMBER", "RESERVATION"])
def test_an_order_is_found_by_what_people_know_of_it(staff: Client, order: Order, words: str) -> None:
    """The buyer's name, the charge, its number or its reservation."""
    words = {"NUMBER": order.number, "RESERVATION": order.reservation_id}.get(words, words)

    assert order.number in staff.get(list_of(Order), {"q": words}).content.decode()


def test_an_order_leads_to_all_that_belongs_to_it(staff: Client, order: Order) -> None:
    """Its reservation, its payments, its offer and its buyer are links; its total reads as money."""
    page = staff.get(page_of(order)).content.decode()

    for row in (order.reservation, order.payments.get(), order.offer, order.buyer):
        assert page_of(row) in page
    assert "¥99.00" in page


def test_long_lists_take_no_more_queries_than_short_ones(staff: Client, lamp: Product) -> None:
    """Orders and payments of ten and of fifty buyers."""
    offer = a_scheduled_sale(lamp).offers.get()
    Stock.objects.filter(pk=offer.pk).update(quantity=100)

    def queries_with(rows: int) -> list[int]:
        for number in range(Order.objects.count(), rows):
            order = an_order(offer, User.objects.create(username=f"shopper{number}"))
            Payment.objects.create(order=order, charge=f"ch_{number}", amount_minor=1, currency="CNY")
        return [_queries(staff, list_of(model)) for model in (Order, Payment, Reservation, Offer, Sale)]

    assert queries_with(10) == queries_with(50)


def _queries(staff: Client, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert staff.get(url).status_code == 200
    return len(captured)


@pytest.mark.parametrize(
    ("state", "opens_in_hours", "sold", "phase"),
    [
        ("draft", -1, 0, "draft"),
        ("scheduled", 1, 0, "scheduled"),
        ("scheduled", -1, 0, "open"),
        ("scheduled", -1, 5, "sold out"),
        ("scheduled", -10, 0, "closed"),
        ("paused", -1, 0, "paused"),
        ("closed", -1, 0, "closed"),
    ],
)
def test_the_list_says_what_a_sale_comes_to(
    staff: Client, lamp: Product, state: str, opens_in_hours: int, sold: int, phase: str
) -> None:
    """The phase follows from the state, the clock and the units that are left."""
    sale = a_draft(lamp, opens_in=timedelta(hours=opens_in_hours))
    Sale.objects.filter(pk=sale.pk).update(state=state)
    Stock.objects.filter(pk=sale.offers.get().pk).update(sold=sold)

    page = staff.get(list_of(Sale)).content.decode()

    assert f'<td class="field-phase">{phase}</td>' in page
    assert f'<td class="field-available">{5 - sold}</td>' in page


# --- The record is read-only -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", READ_ONLY)
def test_the_record_cannot_be_edited(staff: Client, order: Order, model: type[Model]) -> None:
    """Not even by a superuser: adding, changing, deleting and deleting from the list change nothing."""
    before = list(model.objects.order_by("pk").values())
    row = model.objects.first()
    assert row is not None
    page = page_of(row)

    assert staff.get(list_of(model) + "add/").status_code == 403
    for url in (list_of(model) + "add/", page, page.replace("/change/", "/delete/")):
        assert staff.post(url, {"state": "paid", "quantity": 1_000, "post": "yes"}).status_code == 403
    act(staff, "delete_selected", row)

    assert list(model.objects.order_by("pk").values()) == before


# --- Sales -----------------------------------------------------------------------------------------------------------


def test_a_sale_is_written_and_scheduled(staff: Client, lamp: Product) -> None:
    """The form makes the draft, its offer and its stock; the action puts it on the shelf of Redis."""
    answer = staff.post(reverse("admin:shop_sale_add"), sale_form(offer_row(lamp)), follow=True)

    assert "was added successfully" in said(answer)[0]
    sale = Sale.objects.get(slug="winter")
    offer = sale.offers.get()
    assert (sale.state, offer.price_minor) == ("draft", 9_900)
    assert (offer.stock.quantity, offer.stock.unit_limit, offer.stock.hold_seconds) == (5, 2, 60)
    assert stock.levels([offer.pk]) == {offer.pk: None}

    assert act(staff, "schedule", sale) == ["Winter is scheduled (Halo lamp: INSTALLED)."]

    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert (levels.quantity, levels.available, levels.state) == (5, 5, "open")
    assert LogEntry.objects.filter(object_id=str(sale.pk), change_message="schedule").exists()


def test_a_draft_is_edited_with_its_offers(staff: Client, lamp: Product) -> None:
    """An offer gets other terms, one is added; then the first one goes, with its stock."""
    sale = a_draft(lamp)
    first = sale.offers.get()
    kettle = Product.objects.create(title="Kettle", picture="shop/products/kettle.svg", list_price_minor=9_000)

    rows = [stored_row(first, quantity=8, price_minor=7), offer_row(kettle)]
    assert staff.post(page_of(sale), sale_form(*rows, stored=1)).status_code == 302

    first.refresh_from_db()
    second = sale.offers.get(product=kettle)
    assert (first.price_minor, first.stock.quantity, second.stock.quantity) == (7, 8, 5)

    rows = [stored_row(first, DELETE="on"), stored_row(second)]
    assert staff.post(page_of(sale), sale_form(*rows, stored=2)).status_code == 302

    assert list(sale.offers.all()) == [second]
    assert not Stock.objects.filter(pk=first.pk).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("quantity", value) for value in (-5, 0, 10**12, "", "many", "1.5")],
        *[("unit_limit", value) for value in (-1, 0, 10**12, "")],
        *[("hold_seconds", value) for value in (-1, 0, 10**12)],
        *[("price_minor", value) for value in (-1, 0, 10**18, 10**30)],
        *[("product", value) for value in ("", 0, 10**30, "x")],
    ],
)
def test_an_offer_that_makes_no_sense_is_an_error_of_the_form(
    staff: Client, lamp: Product, field: str, value: Any
) -> None:
    """And nothing was made, new or changed."""
    answer = staff.post(reverse("admin:shop_sale_add"), sale_form(offer_row(lamp, **{field: value})))

    assert errors(answer)
    assert not Sale.objects.exists()
    assert not Stock.objects.exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"closes_at_0": "2029-12-31"},
        {"closes_at_0": "2030-01-01"},
        {"opens_at_0": "soon"},
        {"closes_at_0": "9999-99-99"},
        {"slug": ""},
        {"slug": "no spaces"},
        {"title": "\0"},
    ],
)
def test_a_sale_that_makes_no_sense_is_an_error_of_the_form(
    staff: Client, lamp: Product, changed: dict[str, str]
) -> None:
    """Closing before it opens or as it opens, and other slips."""
    assert errors(staff.post(reverse("admin:shop_sale_add"), sale_form(offer_row(lamp), **changed)))
    assert not Sale.objects.exists()


def test_a_product_is_offered_once_in_a_sale(staff: Client, lamp: Product) -> None:
    """Twice is an error of the form, whether both are new or one is there already."""
    assert errors(staff.post(reverse("admin:shop_sale_add"), sale_form(offer_row(lamp), offer_row(lamp))))

    sale = a_draft(lamp)
    rows = [stored_row(sale.offers.get()), offer_row(lamp)]
    assert errors(staff.post(page_of(sale), sale_form(*rows, stored=1)))


@pytest.mark.parametrize("pk", ["999999", "", "x", str(10**30)])
def test_an_offer_that_is_gone_is_an_error_of_the_form(staff: Client, lamp: Product, pk: str) -> None:
    """Somebody removed it meanwhile, or the form was tampered with."""
    sale = a_draft(lamp)

    answer = staff.post(page_of(sale), sale_form(stored_row(sale.offers.get(), stock=pk, quantity=9), stored=1))

    assert errors(answer)
    assert sale.offers.get().stock.quantity == 5


def test_a_published_sale_keeps_what_it_promised(staff: Client, lamp: Product) -> None:
    """Its page says what may change; a form that was opened while it was a draft is refused, with the reason."""
    sale = a_scheduled_sale(lamp)
    offer = sale.offers.get()
    kept = Sale.objects.values("slug", "state", "opens_at", "closes_at").get(pk=sale.pk)
    assert "stay as they were promised" in staff.get(page_of(sale)).content.decode()

    for rows in ([stored_row(offer, quantity=100, price_minor=1)], [stored_row(offer, DELETE="on"), offer_row(lamp)]):
        refused = errors(staff.post(page_of(sale), sale_form(*rows, stored=1, state="closed")))
        assert "Nothing was saved. This form was opened while the sale was a draft" in refused
        assert Sale.objects.get(pk=sale.pk).title == sale.title

    assert staff.post(page_of(sale), title_form(state="closed")).status_code == 302
    assert Sale.objects.values(*kept).get(pk=sale.pk) == kept
    assert Sale.objects.get(pk=sale.pk).title == "Winter"
    assert (sale.offers.get().price_minor, sale.offers.get().stock.quantity) == (9_900, 5)


def test_nobody_schedules_a_draft_while_it_is_saved(staff: Client, lamp: Product) -> None:
    """A form that meets a schedule on its way waits for it, then finds a published sale, and is refused."""
    sale = a_draft(lamp)
    form = sale_form(stored_row(sale.offers.get(), quantity=9), stored=1)

    def save() -> int:
        try:
            return staff.post(page_of(sale), form).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Sale.objects.select_for_update().get(pk=sale.pk)
            saving = pool.submit(save)
            eventually(_somebody_waits_for_a_lock)
            Sale.objects.filter(pk=sale.pk).update(state="scheduled")
        assert saving.result() == 200  # the form again, with the reason

    assert sale.offers.get().stock.quantity == 5


def _somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_stock_that_lies_in_redis_keeps_its_quantity(staff: Client, lamp: Product) -> None:
    """Scheduling broke off after the shelf was filled: the draft's quantity is fixed, and its offer stays."""
    sale = a_draft(lamp)
    offer = sale.offers.get()
    opening.schedule(sale)
    Sale.objects.filter(pk=sale.pk).update(state="draft")

    assert errors(staff.post(page_of(sale), sale_form(stored_row(offer, quantity=6), stored=1)))
    assert errors(staff.post(page_of(sale), sale_form(stored_row(offer, DELETE="on"), stored=1)))
    assert staff.post(page_of(sale), sale_form(stored_row(offer), stored=1)).status_code == 302
    assert sale.offers.get().stock.quantity == 5


def test_pausing_twice_is_harmless(staff: Client, lamp: Product) -> None:
    """Paused stays paused, in PostgreSQL and in Redis, and who comes second hears it; resuming sells again, closing
    ends it."""
    sale = a_scheduled_sale(lamp)

    for action, state, on_the_shelf, said_so in [
        ("pause", "paused", "paused", "is paused (Halo lamp: UPDATED)."),
        ("pause", "paused", "paused", "is paused already: boss was first, at "),
        ("resume", "scheduled", "open", "is scheduled (Halo lamp: UPDATED)."),
        ("close", "closed", "closed", "is closed (Halo lamp: UPDATED)."),
    ]:
        [answer] = act(staff, action, sale)
        assert answer.startswith(f"{sale} {said_so}")
        levels = stock.levels([sale.offers.get().pk])[sale.offers.get().pk]
        assert levels is not None
        assert (Sale.objects.get(pk=sale.pk).state, levels.state) == (state, on_the_shelf)


@pytest.mark.parametrize("action", ["schedule", "preheat", "open_now", "pause", "resume", "close"])
def test_a_page_asks_before_anything_is_done(staff: Client, lamp: Product, action: str) -> None:
    """It names the sales and what will be done; nothing has changed by then."""
    sale, draft = a_scheduled_sale(lamp), a_draft(lamp)
    before = list(Sale.objects.order_by("pk").values())

    answer = staff.post(list_of(Sale), {"action": action, "_selected_action": [sale.pk, draft.pk]})

    page = answer.content.decode()
    assert answer.status_code == 200
    assert all(name in page for name in (sale.title, draft.title, f'name="action" value="{action}"'))
    assert list(Sale.objects.order_by("pk").values()) == before
    assert not SaleEvent.objects.exists()


def test_a_page_asks_before_an_order_or_an_event_ends(staff: Client, order: Order) -> None:
    """Neither has changed by then."""
    event = DeadEntry.objects.get()

    for row, action in ((order, "cancel"), (event, "replay"), (event, "void")):
        answer = staff.post(list_of(type(row)), {"action": action, "_selected_action": [row.pk]})
        assert f'name="_selected_action" value="{row.pk}"' in answer.content.decode()

    assert Order.objects.get(pk=order.pk).state == "awaiting_payment"
    assert DeadEntry.objects.get().resolution == ""
    assert not SaleEvent.objects.exists()


def test_a_sale_that_refuses_does_not_stop_the_others(staff: Client, lamp: Product) -> None:
    """A draft cannot be paused, which is said; the scheduled sales beside it are."""
    draft, *others = a_draft(lamp), a_scheduled_sale(lamp), a_scheduled_sale(lamp)

    answers = act(staff, "pause", draft, *others)

    assert len([answer for answer in answers if "is paused" in answer]) == 2
    assert [answer for answer in answers if "only a scheduled sale can be paused" in answer]
    assert set(Sale.objects.values_list("pk", "state")) == {(draft.pk, "draft"), *((o.pk, "paused") for o in others)}


@pytest.mark.parametrize("error", [InventoryUnavailable("away"), AnswerLost("silence"), stock.ShelfLost("lost")])
def test_redis_away_is_said_and_changes_nothing(
    staff: Client, lamp: Product, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Each sale that Redis did not take stays what it was, and nothing is written down."""
    sales = [a_scheduled_sale(lamp), a_scheduled_sale(lamp)]

    def refuse(*_: Any) -> str:
        raise error

    monkeypatch.setattr(stock, "put_on_shelf", refuse)
    answers = act(staff, "pause", *sales)

    assert answers == [f"Stock Redis did not do it, nothing was changed: {error}"] * 2
    assert not SaleEvent.objects.filter(act="pause").exists()
    assert set(Sale.objects.values_list("state", flat=True)) == {"scheduled"}


def test_who_may_only_look_gets_no_buttons(order: Order, lamp: Product) -> None:
    """Staff with the right to view sales and orders see drafts too, and can neither press nor save."""
    draft, looker, client = a_draft(lamp), User.objects.create(username="looker", is_staff=True), Client()
    names = ["view_sale", "view_offer", "view_order", "view_payment"]
    looker.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(looker)

    for row in (draft, order):
        assert client.get(page_of(row)).status_code == 200
        assert b'name="action"' not in client.get(list_of(type(row))).content
    assert client.post(page_of(draft), sale_form(stored_row(draft.offers.get()), stored=1)).status_code == 403
    client.post(list_of(Order), {"action": "cancel", "_selected_action": [order.pk]})
    order.refresh_from_db()
    assert order.state == "awaiting_payment"


# --- Orders ----------------------------------------------------------------------------------------------------------


def test_cancelling_orders_says_how_many(staff: Client, order: Order) -> None:
    """Units of the cancelled ones go back; what had ended is counted and left alone."""
    ended, waiting = (an_order(order.offer, order.buyer) for _ in range(2))
    Reservation.objects.filter(pk=ended.reservation_id).update(state="confirmed", ended_at=timezone.now())
    Order.objects.filter(pk=ended.pk).update(state="paid")
    Effect.objects.all().delete()

    answers = act(staff, "cancel", order, waiting, ended)

    assert answers == ["2 orders were cancelled.", "1 order was no longer awaiting payment."]
    assert list(Order.objects.order_by("pk").values_list("state", flat=True)) == ["cancelled", "paid", "cancelled"]
    assert set(Effect.objects.values_list("reservation_id", "kind")) == {
        (order.reservation_id, "released"),
        (waiting.reservation_id, "released"),
    }
    assert act(staff, "cancel", order) == ["1 order was no longer awaiting payment."]


def test_an_action_takes_no_more_rows_than_a_request_should(
    staff: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders or sales: a press that would take minutes is refused whole."""
    another, sales = an_order(order.offer, order.buyer), [order.offer.sale, a_draft(order.offer.product)]
    monkeypatch.setattr(admin, "ROWS_MAXIMUM", 1)

    assert act(staff, "cancel", order, another) == ["Nothing was done: an action takes at most 1 rows."]
    assert act(staff, "pause", *sales) == ["Nothing was done: an action takes at most 1 rows."]

    assert set(Order.objects.values_list("state", flat=True)) == {"awaiting_payment"}
    assert set(Sale.objects.values_list("state", flat=True)) == {"draft", "scheduled"}


# --- Products --------------------------------------------------------------------------------------------------------

PRODUCT = {"title": "Kettle", "picture": "shop/products/kettle.svg", "list_price_minor": 9_000, "currency": "CNY"}


def test_a_product_is_written(staff: Client) -> None:
    """With a picture that is there and a price in minor units."""
    assert staff.post(reverse("admin:shop_product_add"), PRODUCT).status_code == 302
    assert "¥90.00" in staff.get(list_of(Product)).content.decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"list_price_minor": 0},
        {"list_price_minor": 10**18},
        {"currency": "yen"},
        {"currency": "CN"},
        {"title": ""},
        {"picture": ""},
        {"picture": "nowhere.svg"},
        {"picture": "../settings.py"},
        {"picture": "shop/products/"},
    ],
)
def test_a_product_that_makes_no_sense_is_an_error_of_the_form(staff: Client, changed: dict[str, Any]) -> None:
    """Prices, currencies, and pictures that would break the pages that show them."""
    assert errors(staff.post(reverse("admin:shop_product_add"), PRODUCT | changed))
    assert not Product.objects.exists()


def test_the_currency_of_a_published_product_stays(staff: Client, lamp: Product) -> None:
    """Its orders are written in it a moment after the click, whatever the form says."""
    a_scheduled_sale(lamp)

    assert staff.post(page_of(lamp), PRODUCT | {"currency": "USD"}).status_code == 302

    lamp.refresh_from_db()
    assert (lamp.title, lamp.currency) == ("Kettle", "CNY")


def test_a_product_on_offer_is_not_deleted(staff: Client, lamp: Product) -> None:
    """The page says what protects it, by its own button and from the list; sales with offers likewise."""
    sale = a_draft(lamp)

    for row in (lamp, sale):
        url = page_of(row).replace("/change/", "/delete/")
        assert b"Cannot delete" in staff.get(url).content
        assert staff.post(url, {"post": "yes"}).status_code == 200
        act(staff, "delete_selected", row)
        assert type(row).objects.filter(pk=row.pk).exists()


# --- The caches ------------------------------------------------------------------------------------------------------


def test_what_staff_save_is_on_the_page_at_once(staff: Client, lamp: Product) -> None:
    """Titles of products and sales are cached facts, dropped when the change is committed."""
    sale = a_scheduled_sale(lamp)
    assert cached_titles(sale) == (sale.title, "Halo lamp")

    staff.post(page_of(lamp), PRODUCT)
    assert cached_titles(sale) == (sale.title, "Kettle")

    staff.post(page_of(sale), title_form())
    assert cached_titles(sale) == ("Winter", "Kettle")

    act(staff, "close", sale)
    assert cache.get(catalog.facts_key(sale.slug)) is None
    [found] = catalog.sales()
    assert found.phase == "closed"


def cached_titles(sale: Sale) -> tuple[str, str]:
    """As both the page of the sale and the list of sales show them."""
    found = catalog.sale(sale.slug)
    assert found is not None
    [listed] = catalog.sales()
    assert (listed.title, listed.offers[0].title) == (found.title, found.offers[0].title)
    return found.title, found.offers[0].title


def test_a_dead_event_is_replayed_or_voided(staff: Client, lamp: Product) -> None:
    """Staff have one recorded and another refused; what makes no sense says so, and a second press changes nothing."""
    offer = a_scheduled_sale(lamp).offers.get()
    buyers = [User.objects.create(username=f"dead-{n}").pk for n in range(2)]
    for buyer in buyers:
        reservations.reserve(offer.pk, [Wish(f"{offer.pk}-{buyer:022}", buyer)])
    outbox.drain(offer.pk, lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    first, second = DeadEntry.objects.order_by("pk")
    nonsense = DeadEntry.objects.create(stock=offer.stock, stream_id="1-1", payload={}, error="-")

    assert act(staff, "replay", first) == [f"{first.stream_id}: replayed"]
    assert act(staff, "void", second) == [f"{second.stream_id}: voided"]
    assert "makes no sense" in act(staff, "replay", nonsense)[0]
    assert act(staff, "replay", first, second) == []

    assert list(Reservation.objects.order_by("pk").values_list("state", flat=True)) == ["held", "refused"]
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    "query", ["?q=%00", "?state=%00", "?opens_at__year=99999999999", "?id=99999999999999999999", "?opens_at__month=%00"]
)
def test_an_address_with_senseless_values_is_no_error_page(staff: Client, query: str) -> None:
    """Typed by hand, it is refused or sent back to the list; nobody sees a 500."""
    staff.raise_request_exception = False

    assert staff.get(list_of(Sale) + query).status_code in (200, 302, 400)
    assert staff.get("/admin/inventory/reservation/%00/change/").status_code in (302, 400, 404)
