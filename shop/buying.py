"""The click: a ticket, then a wish for units, then the truth about the reservation it became."""

import logging
from typing import NamedTuple

from inventory import recovery, reservations, sold_out, stock
from inventory.models import Reservation
from inventory.outcomes import InventoryUnavailable, Outcome, Standing, Wish
from resilience.clock import now_ms
from resilience.log_lines import label
from shop import orders, receipts, tickets
from shop.away import DATABASE_AWAY
from shop.buyers import Buyer
from shop.catalog import Offer, Sale
from shop.models import Order
from shop.receipts import Receipt
from shop.tickets import Ticket

#: The word for a phase in which no ticket is given. An open sale gives one, unless its offer has nothing left.
_NO_TICKET = {
    "scheduled": Outcome.NOT_OPEN,
    "paused": Outcome.PAUSED,
    "closed": Outcome.CLOSED,
    "sold_out": Outcome.SOLD_OUT,
}

logger = logging.getLogger(__name__)


class Click(NamedTuple):
    """What a click came to. `receipt` only when the units are the buyer's."""

    outcome: Outcome
    reservation_id: str
    receipt: str | None = None


def refusal(sale: Sale, offer: Offer) -> Outcome | None:
    """Why no ticket is given now, or None. Redis decides again when the ticket is used."""
    if sale.phase != "open":
        if sale.phase == "paused" and sale.state != "paused":
            return Outcome.UNAVAILABLE
        return _NO_TICKET[sale.phase]
    if not offer.available or sold_out.is_remembered(offer.id, now_ms()):
        return Outcome.SOLD_OUT
    return None


def buy(ticket: Ticket, units: int) -> Click:
    """Reserve what the ticket names; the same ticket again finds the same reservation.

    Raises TicketRefused when the ticket has run out and names no reservation.
    """
    if not ticket.may_buy:
        return _look_up_only(ticket, units)

    if sold_out.is_remembered(ticket.offer_id, ticket.issued_at_ms):
        return Click(Outcome.SOLD_OUT, ticket.reservation_id)

    wish = Wish(ticket.reservation_id, ticket.buyer_id, units)
    [answer] = reservations.reserve(ticket.offer_id, [wish])
    if answer.outcome is Outcome.SOLD_OUT:
        sold_out.learn(ticket.offer_id)
    label(reservation=answer.reservation_id)
    logger.info("%s: %d units", answer.outcome, units)  # the line with the request's id and the reservation's
    if not answer.outcome.yours:
        return Click(answer.outcome, answer.reservation_id)
    receipt = Receipt(answer.reservation_id, ticket.buyer_id, units, answer.epoch, answer.at_ms)
    return Click(answer.outcome, answer.reservation_id, receipts.write(receipt))


def _look_up_only(ticket: Ticket, units: int) -> Click:
    """A ticket past its life is still authentic: it may ask what became of it."""
    try:
        found = reservations.look_up(ticket.offer_id, ticket.reservation_id) or _recorded(ticket.reservation_id)
        levels = stock.levels([ticket.offer_id])[ticket.offer_id]
    except InventoryUnavailable:
        return Click(Outcome.UNAVAILABLE, ticket.reservation_id)
    if found is None:
        raise tickets.TicketRefused
    if found.units != units:
        return Click(Outcome.MISMATCH, ticket.reservation_id)
    receipt = Receipt(ticket.reservation_id, ticket.buyer_id, units, levels.epoch if levels else 0, now_ms())
    return Click(Outcome.REPEATED, ticket.reservation_id, receipts.write(receipt))


def standing(reservation_id: str, buyer: Buyer, receipt: str | None) -> Standing | None:
    """Where a buyer's reservation stands; None when there is none of that name, or it is another's.

    Redis knows the fresh ones without a query, PostgreSQL all that were recorded, and a receipt those that Redis has
    lost. Raises InventoryUnavailable when Redis is away and nobody else knows.
    """
    offer_id = tickets.offer_of(reservation_id)
    if offer_id is None:
        return None

    away: InventoryUnavailable | None = None
    try:
        found = reservations.look_up(offer_id, reservation_id)
    except InventoryUnavailable as error:
        found, away = None, error

    if found and found.state in ("placed", "paid") and found.order is None:  # Redis was filled anew since
        found = _recorded(reservation_id)
    found = found or _written_or_proven(offer_id, reservation_id, receipt, redis_answers=away is None)
    if found is None and away:
        raise away
    return found if found and found.buyer_id == buyer.id else None


def _written_or_proven(
    offer_id: int, reservation_id: str, receipt: str | None, *, redis_answers: bool
) -> Standing | None:
    """What PostgreSQL has written down, else what the receipt proves, also while PostgreSQL is away."""
    try:
        written = _recorded(reservation_id)
    except DATABASE_AWAY:
        proven = _proven(offer_id, reservation_id, receipt, claim=False)
        if proven is None:
            raise
        return proven
    return written or _proven(offer_id, reservation_id, receipt, claim=redis_answers)


def _recorded(reservation_id: str) -> Standing | None:
    reservation = Reservation.objects.filter(pk=reservation_id).first()
    if reservation is None:
        return None
    return Standing(
        reservation_id,
        reservations.STATUS[Reservation.State(reservation.state)],
        reservation.buyer_id,
        reservation.units,
        Order.objects.filter(reservation=reservation).values_list("number", flat=True).first(),
        int(reservation.expires_at.timestamp() * 1000),
    )


def _proven(offer_id: int, reservation_id: str, sealed: str | None, *, claim: bool) -> Standing | None:
    """Held, by its receipt. When Redis answers and knows nothing of it, Redis has lost it: that is claimed at once."""
    receipt = receipts.read(sealed) if sealed else None
    if receipt is None or receipt.reservation_id != reservation_id:
        return None
    standing = Standing(reservation_id, "held", receipt.buyer_id, receipt.units)
    if claim:
        recovery.claim(offer_id, standing, receipt.epoch, receipt.at_ms, orders.place)
    return standing
