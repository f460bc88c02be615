"""What everybody sees: the sales, one sale, its live state; and, as JSON only, what is yours in it."""

import hashlib
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language
from django.views.decorators.gzip import gzip_page

from inventory import reservations
from inventory.outcomes import InventoryUnavailable
from shop import answers, buyers, catalog
from shop.views.methods import takes

#: Seconds a rendered page is served to everybody who speaks its language; its script asks for what is newer.
PAGE_SECONDS = 1


@gzip_page
@takes("GET")
def sales(request: HttpRequest) -> HttpResponse:
    found = catalog.sales()  # not inside the render, which holds a lock that one of these loads may need
    return _same_for_everybody(request, "sales", lambda: render_to_string("shop/sales.html", {"sales": found}, request))


@gzip_page
@takes("GET")
def sale(request: HttpRequest, slug: str) -> HttpResponse:
    found = catalog.sale(slug)
    if found is None:
        return answers.answer(request, "NOT_FOUND", back_url="/")
    return _same_for_everybody(
        request, f"sale:{slug}", lambda: render_to_string("shop/sale.html", {"sale": found}, request)
    )


def _same_for_everybody(request: HttpRequest, name: str, render: Callable[[], str]) -> HttpResponse:
    """The page's cached bytes in the reader's language, or 304 when the reader has them."""
    page: Any = cache.get_or_set(f"page:{name}:{get_language()}", render, PAGE_SECONDS)
    response = HttpResponse(page)
    response["ETag"] = f'"{hashlib.blake2b(page.encode(), digest_size=12).hexdigest()}"'
    response["Cache-Control"] = "no-cache"
    patch_vary_headers(response, ["Cookie", "Accept-Language"])
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
