"""How often somebody may knock: each buyer a little, each address a lot, because a whole city may share one.

Answers are seconds to wait, 0.0 for "come in". The networks of RATE_LIMIT_EXEMPT are never asked to wait.
"""

import hashlib
import logging
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import uniform
from typing import Any

from django.conf import settings

from resilience.rate_limit import Asked, Limit, RateLimiter
from shop.at_hand import at_hand
from shop.buyers import Buyer

Address = IPv4Address | IPv6Address

#: Bits of an IPv6 address that name a household; the other 64 it chooses anew as often as it likes.
HOUSEHOLD_BITS = 64
#: Whose limit counts when nobody knows where a request comes from: one for all of them, rather than none.
NOWHERE = "nowhere"
SECONDS_A_MINUTE = 60
#: Addresses that a process remembers as they are written, and characters of one: reading and comparing one takes 4 us.
ADDRESSES_REMEMBERED, ADDRESS_CHARACTERS = 10_000, 64
#: Who is refused at the same moment comes back spread over this part of the wait, never before it is over.
LATEST = 1.2

logger = logging.getLogger(__name__)


def of_click(environ: dict[str, Any], buyer: Buyer | None) -> float:
    """For a ticket, Buy, Pay or Cancel: by address, and by buyer once somebody is signed in."""
    address = address_of(environ)
    if _is_exempt(address):
        return 0.0
    asked = [(_limit("address", *settings.RATE_LIMIT_ADDRESS), _household(address))]
    if buyer:
        asked.append((_limit("buyer", *settings.RATE_LIMIT_BUYER), str(buyer.id)))
    return _wait(address, *asked)


def of_sign_in(environ: dict[str, Any], username: str) -> float:
    """For a password: by name and address together, so that nobody can lock another out, and by address alone."""
    address = address_of(environ)
    guessed = f"{username.casefold()} {_household(address)}".encode(errors="surrogatepass")
    digest = hashlib.blake2b(guessed, digest_size=16).hexdigest()
    password = (_limit("password", *settings.RATE_LIMIT_PASSWORD), digest)
    return _wait(address, password, (_limit("accounts", *settings.RATE_LIMIT_ACCOUNTS), _household(address)))


def of_sign_up(environ: dict[str, Any]) -> float:
    """For a new account: by address."""
    address = address_of(environ)
    return _wait(address, (_limit("accounts", *settings.RATE_LIMIT_ACCOUNTS), _household(address)))


def address_of(environ: dict[str, Any]) -> Address | None:
    """Who sends this; None when nobody says it in a form that is one.

    Each proxy appends to X-Forwarded-For whom it spoke with, so of that list only the last TRUSTED_PROXIES entries are
    ours; all before them is what the client likes to say. A shorter list has not come through all our proxies: then
    whoever is connected to this process counts.
    """
    trusted = at_hand.TRUSTED_PROXIES
    # From the right, and no further than our own: what a client said before may be as long as its server lets it.
    forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", trusted) if trusted else []
    said = forwarded[-trusted] if len(forwarded) >= trusted > 0 else ""
    return _parsed(said) or _parsed(environ.get("REMOTE_ADDR", ""))


def _parsed(text: str) -> Address | None:
    return _read(text) if len(text) <= ADDRESS_CHARACTERS else _read.__wrapped__(text)


@lru_cache(ADDRESSES_REMEMBERED)
def _read(text: str) -> Address | None:
    """The address, without the port that some proxies add; version 4 in the clothes of version 6 is version 4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _household(address: Address | None) -> str:
    if address is None:
        logger.warning("a request says no address it comes from: all such requests share one limit")
        return NOWHERE
    return str(ip_network((address, HOUSEHOLD_BITS), strict=False) if address.version == 6 else address)


#: What was found out of addresses, by the networks that it was compared with.
_exempt: tuple[Any, dict[Address, bool]] = ((), {})


def _is_exempt(address: Address | None) -> bool:
    """Whether the address is in one of the networks of RATE_LIMIT_EXEMPT."""
    global _exempt
    networks = at_hand.RATE_LIMIT_EXEMPT
    if address is None or not networks:
        return False
    if _exempt[0] is not networks or len(_exempt[1]) >= ADDRESSES_REMEMBERED:
        _exempt = (networks, {})
    known = _exempt[1]
    if address not in known:
        known[address] = any(address in network for network in networks)
    return known[address]


def _wait(address: Address | None, *asked: Asked) -> float:
    if _is_exempt(address):
        return 0.0
    return _limiter(settings.WEB_PROCESSES).retry_after(*asked) * uniform(1, LATEST)


@cache
def _limit(name: str, a_minute: int, burst: int) -> Limit:
    return Limit(name, SECONDS_A_MINUTE / a_minute, burst)


@cache
def _limiter(processes: int) -> RateLimiter:
    return RateLimiter("redis", processes=processes)
