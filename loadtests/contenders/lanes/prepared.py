"""Requests written whole, byte by byte, before anybody measures. Imports models: only where Django is ready."""

import itertools
import json
import secrets
from collections.abc import Iterable

from inventory import reservations
from loadtests.contenders.selling import must_be_reserved, open_offer, wish
from resilience.clock import now_ms
from shop import buyers, tickets
from shop.buyers import Buyer
from shop.models import Offer

#: Numbers of buyers that no account has: nobody asks PostgreSQL who it is.
FIRST_BUYER = 10_000_000
#: As a browser says it.
BROWSER = "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nAccept: text/html\r\n"
PROGRAM = "Accept: application/json\r\n"

_numbers = itertools.count(FIRST_BUYER)


def get(path: str, headers: str = PROGRAM, cookie: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_cookie(cookie)}{headers}\r\n".encode()


def post(path: str, body: str, cookie: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{_cookie(cookie)}{PROGRAM}"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _cookie(cookie: str) -> str:
    return f"Cookie: {cookie}\r\n" if cookie else ""


def slug_of(offer_id: int) -> str:
    return str(Offer.objects.values_list("sale__slug", flat=True).get(pk=offer_id))


def offers_on_sale(count: int) -> dict[int, str]:
    """The ids of so many new offers, each in a sale of its own, with the address of that."""
    offers = [open_offer() for _ in range(count)]
    return {offer_id: slug_of(offer_id) for offer_id in offers}


def clicks(offers: dict[int, str], count: int, people: Iterable[int] = _numbers) -> list[bytes]:
    """A click of another buyer each, with a ticket that was given just now, spread over the offers. `people` have
    accounts where orders are to be written."""
    requests = []
    for (offer_id, slug), number in zip(itertools.cycle(offers.items()), itertools.islice(people, count), strict=False):
        buyer = Buyer(number, secrets.token_bytes(8), now_ms())
        sealed, _ = tickets.issue(offer_id, buyer)
        body = json.dumps({"offer": offer_id, "units": 1, "ticket": sealed})
        requests.append(post(f"/sales/{slug}/buy", body, _buyer_cookie(buyer)))
    return requests


def for_tickets(offer_id: int, slug: str, count: int) -> list[bytes]:
    """New buyers ask for a ticket each."""
    buyers_of = (Buyer(number, secrets.token_bytes(8), now_ms()) for number in itertools.islice(_numbers, count))
    body = json.dumps({"offer": offer_id})
    return [post(f"/sales/{slug}/ticket", body, _buyer_cookie(buyer)) for buyer in buyers_of]


def polls(offer_id: int, count: int) -> list[bytes]:
    """New buyers who hold a unit each ask where their reservations stand."""
    buyers_of = [Buyer(number, secrets.token_bytes(8), now_ms()) for number in itertools.islice(_numbers, count)]
    wishes = [wish(offer_id, buyer.id) for buyer in buyers_of]
    for answer in reservations.reserve(offer_id, wishes):
        must_be_reserved(answer.outcome)
    return [
        get(f"/reservations/{each.reservation_id}", PROGRAM, _buyer_cookie(buyer))
        for each, buyer in zip(wishes, buyers_of, strict=True)
    ]


def _buyer_cookie(buyer: Buyer) -> str:
    return f"buyer={buyers.cookie_for(buyer.id, buyer.device)}"
