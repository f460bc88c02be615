"""An open sale with enough for everybody, and buyers who have not bought yet."""

import itertools
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from inventory import reservations
from inventory.outcomes import Outcome, Wish
from shop import opening, tickets
from shop.models import Product, Sale

#: Time on both sides of now that a sale is open: longer than any run.
WINDOW = timedelta(hours=6)
#: Units of an offer: more than anything sells in a measurement.
ENOUGH = 9_000_000
#: Random bytes in a reservation's id, as in a ticket.
NONCE_BYTES = 16

_numbers = itertools.count(1)


def open_offer(quantity: int = ENOUGH, *, hold_seconds: int = 900) -> int:
    """The id of a new offer in a sale of its own that is open now."""
    number, now = next(_numbers), timezone.now()
    product = Product.objects.create(title=f"Lamp {number}", list_price_minor=20_000)
    sale = Sale.objects.create(slug=f"bench-{number}", title="Bench", opens_at=now - WINDOW, closes_at=now + WINDOW)
    offer = opening.add_offer(sale, product, price_minor=9_900, quantity=quantity, hold_seconds=hold_seconds)
    opening.schedule(sale)
    return int(offer.pk)


def wish(offer_id: int, buyer_id: int) -> Wish:
    return Wish(tickets.reservation_id(offer_id, secrets.token_bytes(NONCE_BYTES)), buyer_id)


def hold_for(offer_id: int, buyers: Sequence[int]) -> None:
    """A unit for each buyer. Raises RuntimeError when one did not get it."""
    for answer in reservations.reserve(offer_id, [wish(offer_id, buyer) for buyer in buyers]):
        must_be_reserved(answer.outcome)


def must_be_reserved(outcome: str) -> None:
    """A bench that measured refusals would be fast and worthless."""
    if outcome != Outcome.RESERVED:
        raise RuntimeError(f"a wish was answered {outcome}")
