"""The click: a ticket, a purchase, and the truth about it at every step, for scripts and for people."""

import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.core.cache import caches
from django.test import Client

from inventory import _connection, _keys, reservations
from inventory.models import Reservation
from inventory.outcomes import Wish
from resilience.clock import now_ms
from shop import buyers, opening, orders, receipts, tickets
from shop.models import Offer, Order, Product, Sale
from shop.receipts import Receipt
from tests.conftest import AN_HOUR
from tests.crowd import at_once, eventually
from tests.shop import clicks
from tests.shop.clicks import JSON, PAGE

MakeShopper = Callable[[], Client]
MakeSale = Callable[..., Sale]


def word(answer: Any) -> tuple[int, str]:
    """Status and word of an answer, which has the shape that all refusals have."""
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert answer["Cache-Control"] == "no-store"
    return answer.status_code, body["outcome"]


def status(shopper: Client, reservation: str, **headers: str) -> dict[str, Any]:
    answer = shopper.get(f"/reservations/{reservation}", headers={**JSON, **headers})
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    return dict(answer.json())


# --- The way of a script ---------------------------------------------------------------------------------------------


def test_a_purchase_by_script(sale: Sale, offer: Offer, shopper: Client) -> None:
    """Ticket, buy, held; and placed, with an order and a time to pay, once PostgreSQL has heard of it."""
    asked = clicks.send(shopper, f"/sales/{sale.slug}/ticket", offer=offer.pk)
    assert (asked.status_code, asked.json().keys()) == (200, {"ticket", "expires_at_ms"})
    assert asked["Cache-Control"] == "no-store"
    assert asked.json()["expires_at_ms"] > now_ms()

    bought = clicks.buy(shopper, sale, asked.json()["ticket"], offer=offer.pk, units=1)
    assert word(bought) == (202, "RESERVED")
    body = bought.json()
    assert body.keys() == {
        *("outcome", "detail", "reservation", "receipt", "status_url", "poll_after_ms", "expires_at_ms")
    }
    assert body["status_url"] == f"/reservations/{body['reservation']}"
    assert body["expires_at_ms"] is None
    assert body["poll_after_ms"] > 0

    held = status(shopper, body["reservation"])
    assert held.keys() == {"state", "order_url", "expires_at_ms", "poll_after_ms", "ahead"}
    assert (held["state"], held["order_url"], held["expires_at_ms"]) == ("held", None, None)

    clicks.record(offer)
    placed, order = status(shopper, body["reservation"]), Order.objects.get()
    assert (placed["state"], placed["order_url"]) == ("placed", f"/orders/{order.number}/")
    assert now_ms() + 50_000 < placed["expires_at_ms"] <= now_ms() + 60_000


def test_the_receipt_says_what_was_held(sale: Sale, shopper: Client) -> None:
    """The receipt of the answer opens, and names the reservation, its buyer and its units."""
    held = clicks.hold(shopper, sale)

    receipt = receipts.read(held["receipt"])

    assert receipt
    assert (receipt.reservation_id, receipt.units) == (held["reservation"], 1)
    assert abs(receipt.at_ms - now_ms()) < 10_000


def test_from_the_click_to_held_no_query(
    sale: Sale, shopper: Client, django_assert_num_queries: Callable[[int], AbstractContextManager[Any]]
) -> None:
    """PostgreSQL is not asked anything between the ticket and the waiting page, while the caches are warm."""
    shopper.get(f"/sales/{sale.slug}/state")

    with django_assert_num_queries(0):
        held = clicks.hold(shopper, sale)
        assert status(shopper, held["reservation"])["state"] == "held"
        assert shopper.get(f"/sales/{sale.slug}/mine").json()["signed_in"]


def test_a_purchase_with_postgresql_down(
    sale: Sale, offer: Offer, shopper: Client, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Reserving goes on while PostgreSQL hangs; recording waits."""
    shopper.get(f"/sales/{sale.slug}/state")
    with frozen("postgresql"):
        held = clicks.hold(shopper, sale)
        assert status(shopper, held["reservation"])["state"] == "held"

    clicks.record(offer)
    assert status(shopper, held["reservation"])["state"] == "placed"


@pytest.mark.parametrize("ending", ["paid", "expired", "released"])
def test_the_status_follows_the_order(sale: Sale, offer: Offer, shopper: Client, ending: str) -> None:
    """Paid, run out or cancelled: the poll says so at once, by Redis, and the same when Redis has forgotten."""
    order = clicks.order(shopper, sale)
    match ending:
        case "paid":
            orders.pay(order)
        case "released":
            orders.cancel(order)
        case "expired":
            Reservation.objects.update(expires_at=order.placed_at - timedelta(seconds=1))
            reservations.expire_due(orders.expire)
    clicks.counters(offer)

    assert status(shopper, order.reservation_id)["state"] == ending
    _connection.stock_redis().delete(_keys.reservations(offer.pk))
    assert status(shopper, order.reservation_id)["state"] == ending


# --- The way of a person without JavaScript --------------------------------------------------------------------------


def test_a_purchase_by_form(sale: Sale, offer: Offer, shopper: Client) -> None:
    """A page with the ticket in it, 303 to a waiting page that reloads itself, and on to the order when it is there."""
    page = shopper.post(f"/sales/{sale.slug}/ticket", {"offer": offer.pk}, headers=PAGE)
    assert page.status_code == 200
    assert page["Cache-Control"] == "no-store"
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode()))
    assert fields.keys() >= {"offer", "ticket", "units"}
    assert f'action="/sales/{sale.slug}/buy"' in page.content.decode()

    bought = shopper.post(f"/sales/{sale.slug}/buy", fields, headers=PAGE)
    assert bought.status_code == 303
    waiting_url = bought["Location"]
    cookie = bought.cookies["receipt"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", waiting_url)
    assert receipts.read(cookie.value)

    waiting = shopper.get(waiting_url, headers=PAGE)
    assert waiting.status_code == 200
    assert waiting["Cache-Control"] == "no-store"
    assert 'http-equiv="refresh"' in waiting.content.decode()

    clicks.record(offer)
    done = shopper.get(waiting_url, headers=PAGE)
    assert (done.status_code, done["Location"]) == (303, f"/orders/{Order.objects.get().number}/")
    assert shopper.get(done["Location"], headers=PAGE).status_code == 200


def test_pressing_twice_is_safe(sale: Sale, offer: Offer, shopper: Client) -> None:
    """The form sent again, by the back button or an impatient finger, leads to the same waiting page."""
    fields = {"offer": offer.pk, "units": 1, "ticket": clicks.ticket(shopper, sale)}

    first, second = (shopper.post(f"/sales/{sale.slug}/buy", fields, headers=PAGE) for _ in range(2))

    assert first["Location"] == second["Location"]
    assert clicks.record(offer) == 1


@pytest.mark.parametrize("https", [True, False])
def test_the_receipt_cookie_is_secure_behind_https(sale: Sale, shopper: Client, settings: Any, https: bool) -> None:
    """TLS ends at the edge, so the setting decides and not what this process sees."""
    settings.HTTPS = https

    bought = shopper.post(f"/sales/{sale.slug}/buy", {"ticket": clicks.ticket(shopper, sale)}, headers=PAGE)

    assert bool(bought.cookies["receipt"]["secure"]) is https


@pytest.mark.parametrize("path", ["ticket", "buy"])
def test_a_person_who_is_not_signed_in_is_led_to_the_form(sale: Sale, client: Client, path: str) -> None:
    """303 to the sign-in that comes back to the sale; a script hears SIGN_IN."""
    url = f"/sales/{sale.slug}/{path}"

    led = client.post(url, headers=PAGE)

    assert (led.status_code, led["Location"]) == (303, f"/accounts/login/?next=/sales/{sale.slug}/")
    assert word(clicks.send(client, url)) == (401, "SIGN_IN")


def test_a_refusal_is_a_page_for_people(make_sale: MakeSale, shopper: Client) -> None:
    """Same status, same sentence, and a way back to the sale."""
    sale = make_sale(quantity=1)
    ticket = clicks.ticket(shopper, sale)
    reservations.reserve(sale.offers.get().pk, [Wish(f"{sale.offers.get().pk}-{secrets.token_urlsafe(16)}", 99)])

    page = shopper.post(f"/sales/{sale.slug}/buy", {"ticket": ticket}, headers=PAGE)

    assert page.status_code == 409
    text = page.content.decode()
    assert 'data-outcome="SOLD_OUT"' in text
    assert f'href="/sales/{sale.slug}/"' in text


def test_a_page_that_is_worth_repeating_repeats_the_click(sale: Sale, make_shopper: MakeShopper, settings: Any) -> None:
    """Without script the same ticket is sent again by a button, so that it can only become the same reservation."""
    settings.EVENTS_WAITING_MAXIMUM = 1
    clicks.hold(make_shopper(), sale)
    late = make_shopper()
    ticket = clicks.ticket(late, sale)

    busy = late.post(f"/sales/{sale.slug}/buy", {"ticket": ticket, "units": 1}, headers=PAGE)

    assert busy.status_code == 503
    assert f'name="ticket" value="{ticket}"' in busy.content.decode()
    assert f'action="/sales/{sale.slug}/buy"' in busy.content.decode()


def test_the_waiting_page_says_how_many_are_ahead(sale: Sale, offer: Offer, make_shopper: MakeShopper) -> None:
    """While PostgreSQL has yet to hear of others; nobody is ahead of what is recorded."""
    first, second = make_shopper(), make_shopper()
    names = [clicks.hold(shopper, sale)["reservation"] for shopper in (first, second)]

    assert status(second, names[1])["ahead"] == 1
    clicks.record(offer)
    assert "ahead" not in status(second, names[1])


# --- Every word ------------------------------------------------------------------------------------------------------


def test_repeated(sale: Sale, offer: Offer, shopper: Client) -> None:
    """The same ticket again, also after the offer has sold out and after it was recorded: 200, same name, a receipt."""
    ticket = clicks.ticket(shopper, sale)
    first = clicks.buy(shopper, sale, ticket).json()
    clicks.record(offer)
    _connection.stock_redis().hset(_keys.units(offer.pk), "available", 0)

    again = clicks.buy(shopper, sale, ticket)

    assert word(again) == (200, "REPEATED")
    assert again.json()["reservation"] == first["reservation"]
    assert receipts.read(again.json()["receipt"])


def test_sold_out(make_sale: MakeSale, make_shopper: MakeShopper) -> None:
    """409 for a ticket that came too late, and no ticket any more for the next one."""
    sale, first, second = make_sale(quantity=1), make_shopper(), make_shopper()
    late = clicks.ticket(second, sale)
    clicks.hold(first, sale)

    assert word(clicks.buy(second, sale, late)) == (409, "SOLD_OUT")
    caches["default"].clear()
    assert word(clicks.send(second, f"/sales/{sale.slug}/ticket")) == (409, "SOLD_OUT")


def test_limit_reached(sale: Sale, offer: Offer, shopper: Client) -> None:
    """409 for a second unit where one is allowed."""
    clicks.hold(shopper, sale)

    assert word(clicks.buy(shopper, sale)) == (409, "LIMIT_REACHED")
    clicks.record(offer)
    assert clicks.counters(offer) == (19, 1, 0)


def test_mismatch(make_sale: MakeSale, shopper: Client) -> None:
    """409 for the same ticket with other units, or with another offer than it was given for."""
    sale, other = make_sale(limit=3), make_sale()
    ticket = clicks.ticket(shopper, sale)
    clicks.buy(shopper, sale, ticket, units=1)

    assert word(clicks.buy(shopper, sale, ticket, units=2)) == (409, "MISMATCH")
    assert word(clicks.buy(shopper, sale, ticket, offer=other.offers.get().pk)) == (409, "MISMATCH")


def test_not_open(make_sale: MakeSale, shopper: Client, offer: Offer) -> None:
    """409 before T0: no ticket; and a ticket given before the opening moved buys nothing."""
    sale = make_sale(opens_in=AN_HOUR)
    assert word(clicks.send(shopper, f"/sales/{sale.slug}/ticket")) == (409, "NOT_OPEN")

    early = clicks.ticket(shopper, offer.sale)
    _connection.stock_redis().hset(_keys.units(offer.pk), "opens_at_ms", now_ms() + 60_000)
    assert word(clicks.buy(shopper, offer.sale, early)) == (409, "NOT_OPEN")


@pytest.mark.parametrize(("verb", "said"), [(opening.close, "CLOSED"), (opening.pause, "PAUSED")])
def test_closed_and_paused_by_staff(sale: Sale, shopper: Client, verb: Callable[[Sale], list[str]], said: str) -> None:
    """409 without a Retry-After, for the ticket and for the click."""
    ticket = clicks.ticket(shopper, sale)
    verb(sale)

    for answer in (clicks.send(shopper, f"/sales/{sale.slug}/ticket"), clicks.buy(shopper, sale, ticket)):
        assert word(answer) == (409, said)
        assert "Retry-After" not in answer


def test_paused_by_a_fault(
    sale: Sale, offer: Offer, shopper: Client, stock_redis: redis.Redis, stock_redis_away: Callable[[], None]
) -> None:
    """503 with a Retry-After when stock Redis is gone: nothing was sent, nothing changes, and the page says paused."""
    ticket = clicks.ticket(shopper, sale)
    before = clicks.everything(stock_redis)
    caches["default"].clear()
    stock_redis_away()

    for answer in (clicks.buy(shopper, sale, ticket), clicks.send(shopper, f"/sales/{sale.slug}/ticket")):
        assert word(answer) == (503, "PAUSED")
        assert int(answer["Retry-After"]) > 0
    assert shopper.get(f"/sales/{sale.slug}/state").json()["phase"] == "paused"
    assert word(shopper.get(f"/sales/{sale.slug}/mine")) == (503, "PAUSED")
    assert shopper.get(f"/sales/{sale.slug}/", headers=PAGE).status_code == 200
    assert clicks.everything(stock_redis) == before


def test_unknown(
    sale: Sale, offer: Offer, shopper: Client, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """503 with the place to look, when the click was sent and no answer came; the same ticket then finds out."""
    ticket = clicks.ticket(shopper, sale)
    with frozen("redis-stock"):
        began = now_ms()
        unsure = clicks.buy(shopper, sale, ticket)
        took_ms = now_ms() - began

    assert word(unsure) == (503, "UNKNOWN")
    assert int(unsure["Retry-After"]) > 0
    assert took_ms < 2_000
    again = clicks.buy(shopper, sale, ticket)
    assert again.json()["outcome"] in ("RESERVED", "REPEATED")
    assert again.json()["status_url"] == unsure.json()["status_url"]
    clicks.record(offer)
    assert clicks.counters(offer) == (19, 1, 0)


def test_busy(sale: Sale, shopper: Client, settings: Any, make_shopper: MakeShopper) -> None:
    """503 with a Retry-After when PostgreSQL is further behind than it may be."""
    settings.EVENTS_WAITING_MAXIMUM = 1
    clicks.hold(shopper, sale)

    answer = clicks.buy(make_shopper(), sale)

    assert word(answer) == (503, "BUSY")
    assert int(answer["Retry-After"]) > 0


def test_a_lost_shelf_is_a_pause(sale: Sale, shopper: Client, stock_redis: redis.Redis) -> None:
    """A Redis that came back empty sells nothing: 503, and no stock is made up."""
    ticket = clicks.ticket(shopper, sale)
    stock_redis.flushall()

    assert word(clicks.buy(shopper, sale, ticket)) == (503, "PAUSED")
    assert stock_redis.dbsize() == 0


def test_ticket_refused_and_not_found(sale: Sale, make_sale: MakeSale, shopper: Client) -> None:
    """403 for a ticket that is none; 404 for a ticket of another sale, a sale or an offer that is not there."""
    assert word(clicks.buy(shopper, sale, "x" * 91)) == (403, "TICKET_REFUSED")
    assert word(clicks.send(shopper, f"/sales/{sale.slug}/buy")) == (403, "TICKET_REFUSED")
    assert word(clicks.buy(shopper, make_sale(), clicks.ticket(shopper, sale))) == (404, "NOT_FOUND")
    assert word(clicks.send(shopper, f"/sales/{sale.slug}/ticket", offer=10**6)) == (404, "NOT_FOUND")
    for path in ("ticket", "buy"):
        lost = clicks.send(shopper, f"/sales/no-such-sale/{path}", ticket=clicks.ticket(shopper, sale))
        assert word(lost) == (404, "NOT_FOUND")


def test_a_sale_of_two_offers_wants_to_know_which(make_sale: MakeSale, shopper: Client) -> None:
    """The offer may be left out only where there is one."""
    sale = make_sale()
    lamp = Product.objects.create(title=f"Another {sale.slug}", list_price_minor=100)
    second = opening.add_offer(sale, lamp, price_minor=100, quantity=5)
    opening.schedule(sale)

    assert word(clicks.send(shopper, f"/sales/{sale.slug}/ticket"))[1] == "NOT_FOUND"
    assert clicks.buy(shopper, sale, clicks.ticket(shopper, sale, offer=second.pk)).status_code == 202
    assert clicks.record(second) == 1


# --- Races -----------------------------------------------------------------------------------------------------------


def _copy_of(shopper: Client) -> Client:
    """A second tab: the same cookies, a client of its own for a thread of its own."""
    tab = Client()
    tab.cookies[buyers.COOKIE] = shopper.cookies[buyers.COOKIE].value
    return tab


def _insist(tab: Client, sale: Sale, ticket: str) -> Any:
    """Press until there is an answer that ends the click, as a page's script does on a busy day."""

    def answer() -> Any:
        body = clicks.buy(tab, sale, ticket, units=1).json()
        return body if body["outcome"] not in ("BUSY", "UNKNOWN") else None

    return eventually(answer)


def test_one_ticket_at_once_is_one_reservation(make_sale: MakeSale, shopper: Client) -> None:
    """Fifty of the same click in the same moment: RESERVED once, REPEATED for the rest, one unit, one name."""
    sale = make_sale(limit=50, quantity=60)
    ticket = clicks.ticket(shopper, sale)

    bodies = at_once([_copy_of(shopper) for _ in range(50)], lambda tab: _insist(tab, sale, ticket))

    words = [body["outcome"] for body in bodies]
    assert words.count("RESERVED") <= 1  # none when its answer was lost: then that click heard REPEATED, too
    assert words.count("RESERVED") + words.count("REPEATED") == 50
    assert len({body["reservation"] for body in bodies}) == 1
    assert clicks.record(sale.offers.get()) == 1
    assert clicks.counters(sale.offers.get()) == (59, 1, 0)


def test_two_tickets_of_one_buyer_at_once(sale: Sale, offer: Offer, shopper: Client) -> None:
    """Two tabs, two tickets, a limit of one: one RESERVED, one LIMIT_REACHED."""
    tabs = [(tab, clicks.ticket(tab, sale)) for tab in (_copy_of(shopper), _copy_of(shopper))]

    words = at_once(tabs, lambda tab: clicks.buy(tab[0], sale, tab[1]).json()["outcome"])

    assert sorted(words) == ["LIMIT_REACHED", "RESERVED"]
    clicks.record(offer)
    assert clicks.counters(offer) == (19, 1, 0)


# --- Where it stands -------------------------------------------------------------------------------------------------


def test_somebody_elses_reservation_is_not_found(
    sale: Sale, offer: Offer, make_shopper: MakeShopper, client: Client
) -> None:
    """404, held or recorded, also with its receipt, and the same as for a name that never was."""
    held = clicks.hold(make_shopper(), sale)
    thief = make_shopper()
    receipt = {"X-Receipt": held["receipt"]}

    for _ in ("held", "placed"):
        answer = thief.get(held["status_url"], headers={**JSON, **receipt})
        assert word(answer) == (404, "NOT_FOUND")
        never = thief.get(f"/reservations/{offer.pk}-{secrets.token_urlsafe(16)}", headers=JSON)
        assert never.content == answer.content
        clicks.record(offer)
    assert word(client.get(held["status_url"])) == (401, "SIGN_IN")


def test_a_stranger_at_a_waiting_page_comes_back_to_it(sale: Sale, shopper: Client, client: Client) -> None:
    """Whoever was signed out meanwhile signs in and is where they were."""
    url = clicks.hold(shopper, sale)["status_url"]

    assert client.get(url, headers=PAGE)["Location"] == f"/accounts/login/?next={url}"


def test_what_redis_has_forgotten_postgresql_knows(
    sale: Sale, offer: Offer, shopper: Client, stock_redis: redis.Redis
) -> None:
    """A recorded reservation is found without Redis's data, with its order and its time to pay."""
    order = clicks.order(shopper, sale)
    before = status(shopper, order.reservation_id)
    stock_redis.flushall()

    assert status(shopper, order.reservation_id) == before


def test_what_postgresql_knows_without_redis(sale: Sale, shopper: Client, stock_redis_away: Callable[[], None]) -> None:
    """The same while Redis is away; what nobody else knows is BUSY and not NOT_FOUND, for it may be there."""
    order = clicks.order(shopper, sale)
    before = status(shopper, order.reservation_id)
    stock_redis_away()

    assert status(shopper, order.reservation_id) == before
    unsure = shopper.get(f"/reservations/{order.offer_id}-{secrets.token_urlsafe(16)}", headers=JSON)
    assert word(unsure) == (503, "BUSY")
    assert int(unsure["Retry-After"]) > 0


def test_a_receipt_counts_when_all_is_lost(sale: Sale, shopper: Client, stock_redis: redis.Redis) -> None:
    """Redis lost everything before PostgreSQL heard of it: the receipt, by header or cookie, still says held."""
    held = clicks.hold(shopper, sale)
    second_device = _copy_of(shopper)
    stock_redis.flushall()
    assert second_device.get(held["status_url"], headers=JSON).status_code == 404

    assert status(second_device, held["reservation"], **{"X-Receipt": held["receipt"]})["state"] == "held"
    assert status(shopper, held["reservation"])["state"] == "held"


def test_a_receipt_counts_for_what_it_names(
    make_sale: MakeSale, make_shopper: MakeShopper, stock_redis: redis.Redis
) -> None:
    """Of another reservation, another buyer, or forged: it proves nothing."""
    shopper, other = make_shopper(), make_shopper()
    held, theirs = clicks.hold(shopper, make_sale()), clicks.hold(other, make_sale())
    stock_redis.flushall()
    stolen = receipts.write(Receipt(held["reservation"], 10**9, 1, 1, 1))

    shopper = _copy_of(shopper)
    for receipt in (theirs["receipt"], stolen, held["receipt"][:-2] + "AA", "x", "é", "a" * 5000):
        answer = shopper.get(held["status_url"], headers={**JSON, "X-Receipt": receipt})
        assert word(answer) == (404, "NOT_FOUND")


def test_mine(make_sale: MakeSale, make_shopper: MakeShopper, client: Client) -> None:
    """A reload or a second device sees what the buyer has in this sale, and how many more may be bought."""
    sale, shopper = make_sale(limit=3), make_shopper()
    offer, url = sale.offers.get(), f"/sales/{sale.slug}/mine"
    left = {str(offer.pk): 3}
    assert client.get(url).json() == {"signed_in": False, "reservations": [], "units_left": left}
    assert shopper.get(url).json() == {"signed_in": True, "reservations": [], "units_left": left}

    held = clicks.hold(shopper, sale, units=2)
    second_device = _copy_of(shopper)
    [mine] = second_device.get(url).json()["reservations"]
    assert (mine["reservation"], mine["offer"], mine["units"]) == (held["reservation"], offer.pk, 2)
    assert (mine["state"], mine["status_url"], mine["order_url"]) == ("held", held["status_url"], None)

    clicks.record(offer)
    answer = shopper.get(url)
    assert answer["Cache-Control"] == "no-store"
    [mine] = answer.json()["reservations"]
    assert (mine["state"], mine["order_url"]) == ("placed", f"/orders/{Order.objects.get().number}/")
    assert answer.json()["units_left"] == {str(offer.pk): 1}
    assert make_shopper().get(url).json()["reservations"] == []


def test_what_came_back_may_be_bought_again(sale: Sale, offer: Offer, shopper: Client) -> None:
    """After a cancellation nothing is mine any more, and the next click reserves."""
    orders.cancel(clicks.order(shopper, sale))
    clicks.counters(offer)

    assert shopper.get(f"/sales/{sale.slug}/mine").json()["units_left"] == {str(offer.pk): 1}
    assert clicks.buy(shopper, sale).status_code == 202


def test_a_ticket_names_what_it_buys(sale: Sale, offer: Offer, shopper: Client) -> None:
    """The reservation's id can be told from the ticket before the click, and is the one that the click gets."""
    ticket = clicks.ticket(shopper, sale)
    buyer = buyers.read(shopper.cookies[buyers.COOKIE].value)
    assert buyer

    named = tickets.read(ticket, buyer).reservation_id

    assert clicks.buy(shopper, sale, ticket).json()["reservation"] == named
