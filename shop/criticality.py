"""How much a request matters, by its method and its address alone; and whose turn it is among equals.

    BUYING     the click, the payment, the provider's word of it
    FOLLOWING  what became of it; and the files that a page which was let in needs
    LOOKING    a sale, its counters, signing in
    BROWSING   lists, and whatever there is not

Staff have a room of their own, so that they can always act; probes have none. An address that is not named here is
BROWSING: `tests/shop/test_criticality.py` asks for a word on each one of `urls.py`.
"""

import time
from enum import IntEnum
from functools import cache
from hashlib import blake2b
from typing import Any

from django.conf import settings

from resilience.admission import SHARDS
from shop import buyers, limits

#: Seconds after which everybody has another place among equals: nobody is the unlucky one for longer, and coming back
#: within the hour, or signing in again, does not improve a place.
PLACE_SECONDS = 3_600
#: Bytes of an address that name a household.
HOUSEHOLD_BYTES = limits.HOUSEHOLD_BITS // 8


class Importance(IntEnum):
    BROWSING = 0
    LOOKING = 1
    FOLLOWING = 2
    BUYING = 3
    STAFF = 4
    EXEMPT = 5

    @property
    def is_public(self) -> bool:
        """One of those that wait in the same room."""
        return self <= Importance.BUYING


PROBES = frozenset({"/livez", "/readyz", "/metrics"})
#: How a POST ends -> what it matters, by what its address begins with.
_POSTS = {
    "/sales/": {"ticket": Importance.BUYING, "buy": Importance.BUYING},
    "/orders/": {"pay": Importance.BUYING, "cancel": Importance.FOLLOWING},
    "/payments/": {
        "callback": Importance.BUYING
    },  # the provider sends it again, but the buyer waits; the door looks at its seal
}
#: What an address begins with -> what it matters, for all that is not in the table above.
_BEGINNINGS = (
    ("/sales/", Importance.LOOKING),
    ("/reservations/", Importance.FOLLOWING),
    ("/orders/", Importance.FOLLOWING),
    ("/static/", Importance.FOLLOWING),
    ("/accounts/", Importance.LOOKING),
    ("/admin/", Importance.STAFF),
)


def of(method: str, path: str) -> Importance:
    if path in PROBES:
        return Importance.EXEMPT
    for beginning, importance in _BEGINNINGS:
        if path.startswith(beginning):
            return _of_post(beginning, path, importance) if method == "POST" else importance
    if method == "POST" and path.startswith("/payments/"):
        return _of_post("/payments/", path, Importance.BROWSING)
    return Importance.BROWSING


def _of_post(beginning: str, path: str, otherwise: Importance) -> Importance:
    return _POSTS.get(beginning, {}).get(path.rpartition("/")[2], otherwise)


def is_slow(method: str, path: str) -> bool:
    """True for what keeps a place for hundreds of milliseconds by its nature: a password's hash, the provider's answer.
    In one room with the others it would take all their places."""
    if method != "POST":
        return False
    return path.startswith("/accounts/") or (path.startswith("/orders/") and path.endswith("/pay"))


def shard_of(cookie: str | None, environ: dict[str, Any]) -> int:
    """The place among equals of whoever has this buyer cookie, else of its household. It says nothing of who it is."""
    who = (buyers.claimed_id(cookie) if cookie else None) or _household(environ)
    hour = int(time.time() // PLACE_SECONDS).to_bytes(8)
    return blake2b(hour + who, digest_size=1, key=_salt()).digest()[0] % SHARDS


def _household(environ: dict[str, Any]) -> bytes:
    """The address, of version 6 the half that it cannot choose; nothing for all who do not say one."""
    address = limits.address_of(environ)
    return address.packed[:HOUSEHOLD_BYTES] if address else b""


@cache
def _salt() -> bytes:
    """The same in all processes, and unknown outside: nobody can look for an address with a good place."""
    return blake2b(b"places", key=settings.SECRET_KEY.encode()[:64], digest_size=16).digest()
