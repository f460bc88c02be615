"""What everybody sees: the sales, one sale, its live state; and, as JSON only, what is yours in it."""

import hashlib
import json
import re

from django.utils.http import parse_etags

from inventory import reservations
from inventory.outcomes import InventoryUnavailable
from shop import buyers, catalog, funnel, levels, pages, replies, words
from shop.asked import Asked
from shop.decoded import Decoded
from shop.hot import hot
from shop.replies import HTML, JSON, Reply

#: Names gzip, and not to say that it is not taken: `gzip;q=0`.
_TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
#: Its reader may keep it, and asks each time whether it still is.
_ASK_AGAIN = ("Cache-Control", "no-cache")


@hot("GET")
def sales(asked: Asked) -> Reply:
    return _same_for_everybody(asked, pages.of_sales(asked.language))


@hot("GET")
def sale(asked: Asked, slug: str) -> Reply:
    page = pages.of_sale(slug, asked.language)
    return _same_for_everybody(asked, page) if page else words.reply(asked, "NOT_FOUND", back_url="/")


def _same_for_everybody(asked: Asked, page: pages.Page) -> Reply:
    """The page's cached bytes, compressed for those who take it, or 304 when the reader has them.

    Compressed, they are other bytes of the same page: its name is a weak one then. (They hold no secret of anybody, so
    nobody learns one from their length.)
    """
    if _TAKES_GZIP.search(asked.environ.get("HTTP_ACCEPT_ENCODING", "")):
        tag = f'W/"{page.etag}"'
        made = Reply(200, page.gzipped, HTML, [("Content-Encoding", "gzip"), ("ETag", tag), _ASK_AGAIN, replies.VARY])
    else:
        tag = f'"{page.etag}"'
        made = Reply(200, page.html, HTML, [("ETag", tag), _ASK_AGAIN, replies.VARY])
    return _unless_known(asked, tag, made)


def _unless_known(asked: Asked, tag: str, made: Reply) -> Reply:
    """304 when the reader has it. Whether its name is a weak one does not count here (RFC 9110, 13.1.2)."""
    known = asked.environ.get("HTTP_IF_NONE_MATCH")
    if not known or not (known.strip() == "*" or tag[tag.index('"') :] in _strong(known)):
        return made
    return Reply(
        304, b"", made.content_type, [(name, value) for name, value in made.headers if name != "Content-Encoding"]
    )


def _strong(known: str) -> set[str]:
    return {tag.removeprefix("W/") for tag in parse_etags(known)}


@hot("GET")
def state(asked: Asked, slug: str) -> Reply:
    found = catalog.sale(slug)
    if found is None:
        return words.reply(asked, "NOT_FOUND")
    body, tag = _states.of(slug, found)
    return _unless_known(asked, tag, Reply(200, body, JSON, [("ETag", tag), _ASK_AGAIN]))


def _as_state(found: catalog.Sale) -> tuple[bytes, str]:
    body = json.dumps(
        {
            "phase": found.phase,
            "opens_at_ms": found.opens_at_ms,
            "closes_at_ms": found.closes_at_ms,
            "poll_after_ms": found.poll_after_ms,
            "offers": [_counters(offer) for offer in found.offers],
        }
    ).encode()
    return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


_states = Decoded[tuple[bytes, str]](_as_state)


def _counters(offer: catalog.Offer) -> dict[str, int | str]:
    counters = {name: getattr(offer, name) for name in ("id", "available", "held", "sold", "quantity")}
    return {**counters, "price_minor": offer.price_minor, "currency": offer.currency}


@hot("GET")
def mine(asked: Asked, slug: str) -> Reply:
    """What the signed-in buyer has in this sale. Asked after a reload or on a second device."""
    found = catalog.sale(slug)
    if found is None:
        return words.reply(asked, "NOT_FOUND")
    funnel.count(slug, "view")  # each page asks once, also one that came out of somebody's cache
    if not levels.MINE.is_on():
        return words.reply(asked, "BACK_SOON", retry_seconds=levels.BACK_SECONDS)
    buyer = buyers.known(asked.cookies)
    offer_ids = [offer.id for offer in found.offers] if buyer else []
    try:
        had = reservations.of_buyer(offer_ids, buyer.id) if buyer else {}
    except InventoryUnavailable:
        return words.reply(asked, "UNAVAILABLE")
    return replies.of_json(
        {
            "signed_in": buyer is not None,
            "reservations": [
                {
                    "reservation": standing.reservation_id,
                    "offer": offer_id,
                    "units": standing.units,
                    "state": standing.state,
                    "status_url": f"/reservations/{standing.reservation_id}",
                    "order_url": f"/orders/{standing.order}/" if standing.order else None,
                }
                for offer_id, (_, standings) in had.items()
                for standing in standings
            ],
            "units_left": {
                str(offer.id): max(0, offer.unit_limit - had.get(offer.id, (0, []))[0]) for offer in found.offers
            },
        }
    )
