"""Tickets: whose they are, how long they buy, and what they can do afterwards."""

import secrets
from collections.abc import Callable

import pytest
from django.conf import settings
from django.test import Client

from resilience.clock import now_ms
from shop import buyers, tickets
from shop.buyers import Buyer
from shop.models import Offer, Sale
from shop.seals import Seal
from tests.shop import clicks


def of_age(seconds: float, offer: Offer, buyer: Buyer, nonce: bytes) -> str:
    """A ticket that was issued that long ago."""
    seal = Seal(b"t", "QQ8sQ16s", settings.TICKET_KEYS)
    issued_at_ms = now_ms() - int(seconds * 1000)
    return seal.close(offer.pk, buyer.id, tickets._hashed(buyer.device), issued_at_ms, nonce)


@pytest.fixture
def buyer(shopper: Client) -> Buyer:
    """The shopper, as the cookie says it."""
    found = buyers.read(shopper.cookies[buyers.COOKIE].value)
    assert found
    return found


EXPIRED = settings.TICKET_SECONDS + 1


def test_a_ticket_is_its_buyers_alone(buyer: Buyer) -> None:
    """Another buyer, and the same one on another device, are refused with the same word as a forger."""
    sealed, issued = tickets.issue(3, buyer)

    assert tickets.read(sealed, buyer) == issued
    for stranger in (Buyer(buyer.id + 1, buyer.device, 0), Buyer(buyer.id, b"another!", 0)):
        with pytest.raises(tickets.TicketRefused):
            tickets.read(sealed, stranger)


def test_a_sold_ticket_is_worth_nothing(sale: Sale, shopper: Client, make_shopper: Callable[[], Client]) -> None:
    """TICKET_REFUSED when somebody else presses Buy with it, and it is still good for its owner."""
    ticket = clicks.ticket(shopper, sale)

    stolen = clicks.buy(make_shopper(), sale, ticket)
    assert (stolen.status_code, stolen.json()["outcome"]) == (403, "TICKET_REFUSED")
    assert clicks.buy(shopper, sale, ticket).status_code == 202


def test_the_same_buyer_on_another_device_needs_another_ticket(sale: Sale, shopper: Client, buyer: Buyer) -> None:
    """A ticket that was copied to a second device is refused there."""
    ticket = clicks.ticket(shopper, sale)
    second_device = Client()
    second_device.cookies[buyers.COOKIE] = buyers.cookie_for(buyer.id)

    assert clicks.buy(second_device, sale, ticket).json()["outcome"] == "TICKET_REFUSED"


def test_every_ticket_names_another_reservation(buyer: Buyer) -> None:
    """No two clicks are the same, and the name says which offer it is of."""
    names = {tickets.issue(3, buyer)[1].reservation_id for _ in range(100)}

    assert len(names) == 100
    assert {tickets.offer_of(name) for name in names} == {3}


def test_an_expired_ticket_buys_nothing(sale: Sale, offer: Offer, shopper: Client, buyer: Buyer) -> None:
    """TICKET_REFUSED a second after its end, and no unit moves."""
    late = of_age(EXPIRED, offer, buyer, secrets.token_bytes(16))

    assert clicks.buy(shopper, sale, late).json()["outcome"] == "TICKET_REFUSED"
    assert clicks.counters(offer) == (20, 0, 0)


def test_an_expired_ticket_finds_what_it_bought(sale: Sale, offer: Offer, shopper: Client, buyer: Buyer) -> None:
    """REPEATED for the same units, MISMATCH for others, also after it was recorded; nothing is bought again."""
    nonce = secrets.token_bytes(16)
    won = clicks.buy(shopper, sale, of_age(settings.TICKET_SECONDS - 5, offer, buyer, nonce)).json()
    late = of_age(EXPIRED, offer, buyer, nonce)

    for _ in ("held", "placed"):
        again, other = clicks.buy(shopper, sale, late), clicks.buy(shopper, sale, late, units=2)
        assert (again.status_code, again.json()["outcome"]) == (200, "REPEATED")
        assert again.json()["reservation"] == won["reservation"]
        assert (other.status_code, other.json()["outcome"]) == (409, "MISMATCH")
        clicks.record(offer)
    assert clicks.counters(offer) == (19, 1, 0)


NONCE = "A" * 21 + "w"


@pytest.mark.parametrize(
    ("name", "offer_id"),
    [
        (f"1-{NONCE}", 1),
        (f"987654321-{NONCE}", 987654321),
        (f"{10**18 - 1}-{NONCE}", 10**18 - 1),
        (f"{10**18}-{NONCE}", None),
        (f"0-{NONCE}", None),
        (f"01-{NONCE}", None),
        (f"+1-{NONCE}", None),
        (f"-1-{NONCE}", None),
        (f" 1-{NONCE}", None),
        (f"1_0-{NONCE}", None),
        (f"٣-{NONCE}", None),
        (f"1-{NONCE}\n", None),
        (f"1-{NONCE}\0", None),
        (f"1-{NONCE}=", None),
        (f"1-{NONCE}A", None),
        (f"1-{NONCE[1:]}", None),
        (f"1-{NONCE[1:]}:", None),
        (f"1-{NONCE[1:]}+", None),
        (f"{{1}}-{NONCE}", None),
        (f"1:{NONCE}", None),
        (f"1{NONCE}", None),
        (f"-{NONCE}", None),
        ("1-", None),
        ("../../etc/passwd", None),
        ("", None),
        ("A" * 10_000, None),
    ],
)
def test_the_name_of_a_reservation_is_read_strictly(name: str, offer_id: int | None) -> None:
    """Offer id, dash, 22 characters of the URL alphabet: anything else is no name, and reaches no server."""
    assert tickets.offer_of(name) == offer_id
