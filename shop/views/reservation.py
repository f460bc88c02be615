"""Where a reservation stands: JSON for polls, the waiting page for a browser."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from inventory import outbox
from inventory.outcomes import InventoryUnavailable, Standing
from shop import answers, buyers, buying, catalog, levels, tickets
from shop.away import DATABASE_AWAY
from shop.views.methods import takes

#: Milliseconds until a waiting page asks again: soon while the drain works, seldom when only time or money moves it.
POLL_HELD_MS = 500
POLL_PLACED_MS = 3_000
#: Seconds until a waiting page without script loads itself again.
REFRESH_SECONDS = 1
#: The cookie that keeps a receipt over a reload; bound to its reservation by its path.
RECEIPT_COOKIE = "receipt"
#: Seconds such a receipt is kept: longer than any claim window after a loss of Redis.
RECEIPT_SECONDS = 24 * 3600


def keep_receipt(response: HttpResponse, status_url: str, receipt: str) -> None:
    """Let the browser send the receipt whenever it asks for this reservation."""
    response.set_cookie(
        RECEIPT_COOKIE,
        receipt,
        max_age=RECEIPT_SECONDS,
        path=status_url,
        httponly=True,
        samesite="Lax",
        secure=settings.HTTPS,
    )


@takes("GET")
def status(request: HttpRequest, reservation_id: str) -> HttpResponse:
    """The buyer's own reservation; anybody else's does not exist."""
    buyer = buyers.of(request)
    if buyer is None:
        return answers.sign_in(request, request.path)
    receipt = request.headers.get("X-Receipt") or request.COOKIES.get(RECEIPT_COOKIE)
    try:
        standing = buying.standing(reservation_id, buyer, receipt)
    except InventoryUnavailable:
        return answers.answer(request, "BACK_SOON")
    if standing is None:
        return answers.answer(request, "NOT_FOUND", back_url="/")
    return _show(request, standing)


def _show(request: HttpRequest, standing: Standing) -> HttpResponse:
    facts = _facts(standing)
    if not answers.wants_page(request):
        response: HttpResponse = JsonResponse(facts)
    elif standing.state in ("placed", "paid") and facts["order_url"]:
        return answers.see_other(facts["order_url"])
    else:
        where = {"reservation": standing.reservation_id, "sale_url": _sale_url(standing)}
        context = {**facts, **where, "refresh_seconds": levels.slower(REFRESH_SECONDS)}
        response = render(request, "shop/waiting.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _facts(standing: Standing) -> dict[str, Any]:
    held = standing.state == "held"
    return {
        "state": standing.state,
        "order_url": f"/orders/{standing.order}/" if standing.order else None,
        "expires_at_ms": standing.expires_at_ms,
        "poll_after_ms": levels.slower(POLL_HELD_MS if held else POLL_PLACED_MS),
        **({"ahead": _ahead(standing)} if held and levels.AHEAD.is_on() else {}),
    }


def _ahead(standing: Standing) -> int | None:
    """How many holds PostgreSQL writes down before this one, at most; None when nobody can say."""
    offer_id = tickets.offer_of(standing.reservation_id)
    try:
        waiting = outbox.waiting_events([offer_id]) if offer_id else {}
    except InventoryUnavailable:
        return None
    return max(0, sum(waiting.values()) - 1)


def _sale_url(standing: Standing) -> str:
    """Where the buyer came from, as far as anybody knows."""
    offer_id = tickets.offer_of(standing.reservation_id)
    try:
        sales = catalog.sales()
    except DATABASE_AWAY:
        return "/"
    return next((f"/sales/{sale.slug}/" for sale in sales if sale.offer(offer_id)), "/")
