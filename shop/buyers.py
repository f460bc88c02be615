"""Who is it: the signed `buyer` cookie, which shopper pages trust alone, without a session and without a query.

A buyer whose account was switched off is revoked: each process asks PostgreSQL once a second who that is, on the side,
and keeps its last knowledge when PostgreSQL is down.
"""

import base64
import logging
import secrets
import threading
import time
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse

from resilience.clock import now_ms
from resilience.log_lines import label
from shop import replies
from shop.at_hand import at_hand
from shop.seals import Forged, Seal

COOKIE = "buyer"
#: Seconds between two looks at the list of revoked buyers.
REVOCATION_SECONDS = 1.0
#: Characters of a cookie that hold its kind, the number of its key and the buyer's id.
CLAIM_LENGTH = 16

logger = logging.getLogger(__name__)


class Buyer(NamedTuple):
    """A signed-in shopper on one device."""

    id: int
    device: bytes
    issued_at_ms: int

    @property
    def past_half_its_life(self) -> bool:
        return now_ms() - self.issued_at_ms > at_hand.BUYER_COOKIE_SECONDS * 500


@cache
def _seal() -> Seal:
    """Buyer id, device nonce, issued at (ms)."""
    return Seal(b"b", "Q8sQ", settings.BUYER_KEYS)


def cookie_for(buyer_id: int, device: bytes | None = None) -> str:
    """A fresh cookie value; the device keeps its nonce when it is renewed."""
    return _seal().close(buyer_id, device or secrets.token_bytes(8), now_ms())


def read(cookie: str) -> Buyer | None:
    """The buyer whom the cookie names, or None when it is forged, too old, or its buyer is revoked."""
    try:
        buyer = Buyer(*_seal().open(cookie))
    except Forged:
        return None
    too_old = now_ms() - buyer.issued_at_ms > at_hand.BUYER_COOKIE_SECONDS * 1000
    return None if too_old or buyer.id in revoked() else buyer


def claimed_id(cookie: str) -> bytes | None:
    """Whom the cookie names, without a look at its seal: for what spreads people, never for what they may do."""
    try:
        return base64.urlsafe_b64decode(cookie[:CLAIM_LENGTH])[2:10]
    except ValueError:  # not base64, or not even ASCII
        return None


def of(request: HttpRequest) -> Buyer | None:
    """The buyer who sends this request."""
    return known(request.COOKIES)


def known(cookies: dict[str, str]) -> Buyer | None:
    """The buyer to whom these cookies belong, whose number the log lines carry from now on."""
    cookie = cookies.get(COOKIE)
    buyer = read(cookie) if cookie else None
    if buyer:
        label(buyer=buyer.id)
    return buyer


def remember(response: HttpResponse, buyer_id: int, device: bytes | None = None) -> None:
    """Sign the buyer in on the device that gets this response."""
    response.set_cookie(
        COOKIE,
        cookie_for(buyer_id, device),
        max_age=at_hand.BUYER_COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=settings.HTTPS,
    )


def renewal(buyer: Buyer) -> tuple[str, str]:
    """The header that signs the same device in for another life of the cookie."""
    return replies.cookie(COOKIE, cookie_for(buyer.id, buyer.device), at_hand.BUYER_COOKIE_SECONDS)


def forget(response: HttpResponse) -> None:
    response.delete_cookie(COOKIE, samesite="Lax")


class _Revocations:
    """The ids of switched-off accounts, at most a second old, read by a side thread so that no request waits."""

    def __init__(self) -> None:
        self.ids: frozenset[int] = frozenset()
        self._asked_at = float("-inf")
        self._asking = threading.Lock()

    def current(self) -> frozenset[int]:
        due = time.monotonic() - self._asked_at > REVOCATION_SECONDS
        if due and self._asking.acquire(blocking=False):
            self._asked_at = time.monotonic()
            threading.Thread(target=self._ask, name="revocations", daemon=True).start()
        return self.ids

    def _ask(self) -> None:
        try:
            self.refresh()
        except DatabaseError as error:
            logger.warning("revoked buyers cannot be read, the last list stays: %s", error)
        finally:
            connection.close()
            self._asking.release()

    def refresh(self) -> None:
        users = get_user_model().objects.filter(is_active=False)
        self.ids = frozenset(users.values_list("pk", flat=True))


revocations = _Revocations()


def revoked() -> frozenset[int]:
    return revocations.current()
