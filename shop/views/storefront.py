"""What everybody sees: the sales, one sale, its live state; and, as JSON only, what is yours in it."""

import hashlib
import re

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language

from inventory import reservations
from inventory.outcomes import InventoryUnavailable
from shop import answers, buyers, catalog, levels, pages
from shop.views.methods import takes

#: Names gzip, and not to say that it is not taken: `gzip;q=0`.
_TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@takes("GET")
def sales(request: HttpRequest) -> HttpResponse:
    return _same_for_everybody(request, pages.of_sales(get_language()))


@takes("GET")
def sale(request: HttpRequest, slug: str) -> HttpResponse:
    page = pages.of_sale(slug, get_language())
    return _same_for_everybody(request, page) if page else answers.answer(request, "NOT_FOUND", back_url="/")


def _same_for_everybody(request: HttpRequest, page: pages.Page) -> HttpResponse:
    """The page's cached bytes, compressed for those who take it, or 304 when the reader has them.

    Compressed, they are other bytes of the same page: its name is a weak one then. (They hold no secret of anybody, so
    nobody learns one from their length.)
    """
    if _TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
        response = HttpResponse(page.gzipped)
        response["Content-Encoding"] = "gzip"
        response["ETag"] = f'W/"{page.etag}"'
    else:
        response = HttpResponse(page.html)
        response["ETag"] = f'"{page.etag}"'
    response["Cache-Control"] = "no-cache"
    patch_vary_headers(response, ["Cookie", "Accept-Language", "Accept-Encoding"])
    return get_conditional_response(request, etag=response["ETag"], response=response) or response


@takes("GET")
def state(request: HttpRequest, slug: str) -> HttpResponse:
    found = catalog.sale(slug)
    if found is None:
        return answers.answer(request, "NOT_FOUND")
    response = JsonResponse(
        {
            "phase": found.phase,
            "opens_at_ms": found.opens_at_ms,
            "closes_at_ms": found.closes_at_ms,
            "poll_after_ms": found.poll_after_ms,
            "offers": [_counters(offer) for offer in found.offers],
        }
    )
    response["ETag"] = f'"{hashlib.blake2b(response.content, digest_size=12).hexdigest()}"'
    response["Cache-Control"] = "no-cache"
    return get_conditional_response(request, etag=response["ETag"], response=response) or response


def _counters(offer: catalog.Offer) -> dict[str, int | str]:
    counters = {name: getattr(offer, name) for name in ("id", "available", "held", "sold", "quantity")}
    return {**counters, "price_minor": offer.price_minor, "currency": offer.currency}


@takes("GET")
def mine(request: HttpRequest, slug: str) -> HttpResponse:
    """What the signed-in buyer has in this sale. Asked after a reload or on a second device."""
    found = catalog.sale(slug)
    if found is None:
        return answers.answer(request, "NOT_FOUND")
    if not levels.MINE.is_on():
        return answers.answer(request, "BACK_SOON", retry_seconds=levels.BACK_SECONDS)
    buyer = buyers.of(request)
    offer_ids = [offer.id for offer in found.offers] if buyer else []
    try:
        had = reservations.of_buyer(offer_ids, buyer.id) if buyer else {}
    except InventoryUnavailable:
        return answers.answer(request, "UNAVAILABLE")
    response = JsonResponse(
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
    response["Cache-Control"] = "no-store"
    return response
