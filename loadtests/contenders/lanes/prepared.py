"""Requests written whole, byte by byte, before anybody measures. Imports models: only where Django is ready."""

import itertools
import json
import secrets
from collections.abc import Sequence

from loadtests.contenders.selling import open_offer
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


def clicks(offers: dict[int, str], count: int) -> tuple[list[bytes], list[str]]:
    """A click of a new buyer each, with a ticket that was given just now, spread over the offers; and the reservations
    that they name."""
    requests, reservations = [], []
    for (offer_id, slug), number in zip(itertools.cycle(offers.items()), itertools.islice(_numbers, count)):
        buyer = Buyer(number, secrets.token_bytes(8), now_ms())
        sealed, ticket = tickets.issue(offer_id, buyer)
        body = json.dumps({"offer": offer_id, "units": 1, "ticket": sealed})
        requests.append(post(f"/sales/{slug}/buy", body, _buyer_cookie(buyer)))
        reservations.append(ticket.reservation_id)
    return requests, reservations


def polls(requests: Sequence[bytes], reservations: Sequence[str]) -> list[bytes]:
    """The same buyers ask where their reservations stand."""
    cookies = [request.partition(b"Cookie: ")[2].partition(b"\r\n")[0].decode() for request in requests]
    return [get(f"/reservations/{name}", PROGRAM, cookie) for name, cookie in zip(reservations, cookies, strict=True)]


def _buyer_cookie(buyer: Buyer) -> str:
    return f"buyer={buyers.cookie_for(buyer.id, buyer.device)}"
