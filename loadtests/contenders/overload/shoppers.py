"""A sale that is open, and people who have bought there. Imports models: only where Django is ready."""

import json
from dataclasses import dataclass

from loadtests.house import House
from shop import buyers, buying, demo, tickets
from shop.models import Offer

SLUG = "bench"
#: More than all of them buy, for longer than anything here takes.
TERMS = demo.Terms(quantity=100_000, unit_limit=2, hold_seconds=86_400)


@dataclass(frozen=True, slots=True)
class Shopper:
    cookie: str
    #: The body of a click with the ticket that names the reservation.
    click: str
    reservation: str


@dataclass(frozen=True, slots=True)
class Crowd:
    page: str
    shoppers: list[Shopper]


def shoppers_of_a_sale(house: House, count: int) -> Crowd:
    sale = demo.one_sale(SLUG, TERMS, opens_in_seconds=0)
    offer = sale.offers.get()
    return Crowd(f"/sales/{sale.slug}/", [_shopper(offer, person) for person in house.people(count)])


def _shopper(offer: Offer, person: int) -> Shopper:
    cookie = buyers.cookie_for(person)
    buyer = buyers.read(cookie)
    assert buyer is not None
    sealed, ticket = tickets.issue(offer.pk, buyer)
    bought = buying.buy(ticket, 1)
    assert bought.outcome.yours, bought
    return Shopper(cookie, json.dumps({"ticket": sealed, "offer": offer.pk, "units": 1}), ticket.reservation_id)
