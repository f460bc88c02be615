"""Buyers and their reservations, when a test does not care who they are."""

import itertools
import json
import secrets

from django.contrib.auth.models import User

from shop import payments, provider
from shop.models import Offer, Order

_numbers = itertools.count(1)


def a_crowd(size: int) -> list[int]:
    """The ids of that many new buyers."""
    people = User.objects.bulk_create(User(username=f"person-{next(_numbers)}") for _ in range(size))
    return [person.pk for person in people]


def reservation_id(offer: Offer) -> str:
    """A reservation's id as a ticket would name it."""
    return f"{offer.pk}-{secrets.token_urlsafe(16)}"


def pay(order: Order) -> None:
    """The provider's callback: the whole price has come."""
    event = {
        "event_id": f"ev_{order.number}",
        "type": "charge.succeeded",
        "charge": f"ch_{order.number}",
        "reference": order.number,
        "amount_minor": order.total_minor,
        "currency": order.currency,
    }
    raw = json.dumps(event).encode()
    payments.handle_callback(raw, provider.sign(raw))
