"""Receipts: the buyer's proof of a hold. It counts even if Redis is lost with all its data."""

import base64
from functools import cache
from typing import NamedTuple

from django.conf import settings

from shop.seals import Forged, Seal
from shop.tickets import offer_of, reservation_id


class Receipt(NamedTuple):
    """These units were held for this buyer, in that epoch of Redis, at that time of its clock."""

    reservation_id: str
    buyer_id: int
    units: int
    epoch: int
    at_ms: int


@cache
def _seal() -> Seal:
    """Offer id, nonce, buyer id, units, epoch, at (ms)."""
    return Seal(b"r", "Q16sQIIQ", settings.RECEIPT_KEYS)


def write(receipt: Receipt) -> str:
    offer_id = offer_of(receipt.reservation_id)
    nonce = base64.urlsafe_b64decode(receipt.reservation_id.partition("-")[2] + "==")
    return _seal().close(offer_id, nonce, receipt.buyer_id, receipt.units, receipt.epoch, receipt.at_ms)


def read(sealed: str) -> Receipt | None:
    """The receipt, or None when it is not one of ours."""
    try:
        offer_id, nonce, buyer_id, units, epoch, at_ms = _seal().open(sealed)
    except Forged:
        return None
    return Receipt(reservation_id(offer_id, nonce), buyer_id, units, epoch, at_ms)
