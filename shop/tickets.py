"""Tickets: the permission to press Buy, and the name of the click.

A ticket is bound to buyer, device and offer and carries a random nonce; offer and nonce are the reservation's id. So
the same ticket, sent again or in parallel, can only name the same reservation. After its short life it is still
authentic: it can look up the reservation it names, and nothing else.
"""

import base64
import hashlib
import re
import secrets
from functools import cache
from typing import NamedTuple

from django.conf import settings

from resilience.clock import now_ms
from shop.at_hand import at_hand
from shop.buyers import Buyer
from shop.seals import Forged, Seal

_RESERVATION_ID = re.compile(r"\A[1-9][0-9]{0,17}-[A-Za-z0-9_-]{22}\Z")


class TicketRefused(Exception):
    """Not a ticket of ours, or not this buyer's. One word for all reasons: a forger learns nothing."""


class Ticket(NamedTuple):
    offer_id: int
    buyer_id: int
    device: bytes
    issued_at_ms: int
    nonce: bytes

    @property
    def reservation_id(self) -> str:
        return reservation_id(self.offer_id, self.nonce)

    @property
    def expires_at_ms(self) -> int:
        return self.issued_at_ms + at_hand.TICKET_SECONDS * 1000

    @property
    def may_buy(self) -> bool:
        return now_ms() < self.expires_at_ms


@cache
def _seal() -> Seal:
    """Offer id, buyer id, device (hashed), issued at (ms), nonce."""
    return Seal(b"t", "QQ8sQ16s", settings.TICKET_KEYS)


def issue(offer_id: int, buyer: Buyer) -> tuple[str, Ticket]:
    """A new ticket, sealed and open."""
    ticket = Ticket(offer_id, buyer.id, _hashed(buyer.device), now_ms(), secrets.token_bytes(16))
    sealed = _seal().close(ticket.offer_id, ticket.buyer_id, ticket.device, ticket.issued_at_ms, ticket.nonce)
    return sealed, ticket


def read(sealed: str, buyer: Buyer) -> Ticket:
    """The ticket, fresh or not. Raises TicketRefused when it is forged or another buyer's or another device's."""
    try:
        ticket = Ticket(*_seal().open(sealed))
    except Forged as forged:
        raise TicketRefused from forged
    if ticket.buyer_id != buyer.id or ticket.device != _hashed(buyer.device):
        raise TicketRefused
    return ticket


def reservation_id(offer_id: int, nonce: bytes) -> str:
    """`<offer id>-<22 characters>`: says in which offer's keys to look, and is nobody's to guess."""
    return f"{offer_id}-{base64.urlsafe_b64encode(nonce).rstrip(b'=').decode()}"


def offer_of(reservation: str) -> int | None:
    """The offer's id in a reservation's id; None when it is none of ours."""
    return int(reservation.partition("-")[0]) if _RESERVATION_ID.match(reservation) else None


def _hashed(device: bytes) -> bytes:
    return hashlib.blake2b(device, digest_size=8).digest()
