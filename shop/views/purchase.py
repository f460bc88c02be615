"""The click: ticket, buy, wait."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from inventory.outcomes import InventoryUnavailable, Outcome, Standing
from shop import answers, buyers, buying, catalog, tickets, wishes
from shop.buyers import Buyer
from shop.catalog import Offer, Sale
from shop.views.methods import takes
from shop.wishes import UNITS_MAXIMUM, BadWish

#: Milliseconds until a waiting page asks again: soon while the drain works, seldom when only time or money moves it.
POLL_HELD_MS = 500
POLL_PLACED_MS = 3_000
#: The cookie that keeps a receipt for a page without script; bound to its reservation by its path.
RECEIPT_COOKIE = "receipt"
#: Seconds such a receipt is kept: longer than any claim window after a loss of Redis.
RECEIPT_SECONDS = 24 * 3600


@takes("POST")
def ticket(request: HttpRequest, slug: str) -> HttpResponse:
    """The permission to press Buy: JSON for the page's script, a page with the button for a form."""
    found = catalog.sale(slug)
    if found is None:
        return answers.answer(request, "NOT_FOUND", back_url="/")
    sale_url = f"/sales/{slug}/"
    buyer = buyers.of(request)
    if buyer is None:
        return answers.sign_in(request, sale_url)
    try:
        offer = found.offer(wishes.read(request).whole("offer"))
    except BadWish as bad:
        return answers.answer(request, bad.word, back_url=sale_url)
    if offer is None:
        return answers.answer(request, "NOT_FOUND", back_url=sale_url)

    refusal = buying.refusal(found, offer)
    if refusal:
        return answers.answer(request, refusal, back_url=sale_url)
    return _ticket(request, found, offer, buyer)


def _ticket(request: HttpRequest, sale: Sale, offer: Offer, buyer: Buyer) -> HttpResponse:
    sealed, issued = tickets.issue(offer.id, buyer)
    response: HttpResponse
    if answers.wants_page(request):
        context = {"sale": sale, "offer": offer, "ticket": sealed, "expires_at_ms": issued.expires_at_ms}
        response = render(request, "shop/ticket.html", context)
    else:
        response = JsonResponse({"ticket": sealed, "expires_at_ms": issued.expires_at_ms})
    response["Cache-Control"] = "no-store"
    if buyer.past_half_its_life:
        buyers.remember(response, buyer.id, buyer.device)
    return response


@takes("POST")
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    """The click itself. No query: the ticket says who, what and which reservation; Redis decides."""
    sale_url = f"/sales/{slug}/"
    buyer = buyers.of(request)
    if buyer is None:
        return answers.sign_in(request, sale_url)
    try:
        wish = wishes.read(request)
        offer_id = wish.whole("offer")
        units = wish.whole("units", 1, most=UNITS_MAXIMUM) or 1
        ticket = tickets.read(wish.text("ticket"), buyer)
        if offer_id is not None and offer_id != ticket.offer_id:
            return answers.answer(request, "MISMATCH", back_url=sale_url)
        if not _offered(slug, ticket.offer_id):
            return answers.answer(request, "NOT_FOUND", back_url="/")
        click = buying.buy(ticket, units)
    except BadWish as bad:
        return answers.answer(request, bad.word, back_url=sale_url)
    except tickets.TicketRefused:
        return answers.answer(request, "TICKET_REFUSED", back_url=sale_url)
    return _answer_click(request, click, sale_url)


def _offered(slug: str, offer_id: int) -> bool:
    found = catalog.sale(slug)
    return found is not None and found.offer(offer_id) is not None


def _answer_click(request: HttpRequest, click: buying.Click, sale_url: str) -> HttpResponse:
    status_url = f"/reservations/{click.reservation_id}"
    if not click.outcome.yours:
        where = {"status_url": status_url} if click.outcome is Outcome.UNKNOWN else {}
        return answers.answer(request, click.outcome, back_url=sale_url, **where)
    if answers.wants_page(request):
        response = answers.see_other(status_url)
        if click.receipt:
            response.set_cookie(
                RECEIPT_COOKIE,
                click.receipt,
                max_age=RECEIPT_SECONDS,
                path=status_url,
                httponly=True,
                samesite="Lax",
                secure=request.is_secure(),
            )
        return response
    return answers.answer(
        request,
        click.outcome,
        reservation=click.reservation_id,
        receipt=click.receipt,
        status_url=status_url,
        poll_after_ms=POLL_HELD_MS,
        expires_at_ms=None,
    )


@takes("GET")
def reservation(request: HttpRequest, reservation_id: str) -> HttpResponse:
    """Where the buyer's reservation stands: JSON for polls, the waiting page for a browser."""
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
    return _standing(request, standing)


def _standing(request: HttpRequest, standing: Standing) -> HttpResponse:
    order_url = f"/orders/{standing.order}/" if standing.order else None
    fields: dict[str, Any] = {
        "state": standing.state,
        "order_url": order_url,
        "expires_at_ms": standing.expires_at_ms,
        "poll_after_ms": POLL_HELD_MS if standing.state == "held" else POLL_PLACED_MS,
    }
    if not answers.wants_page(request):
        response: HttpResponse = JsonResponse(fields)
    elif standing.state in ("placed", "paid") and order_url:
        return answers.see_other(order_url)
    else:
        context = {**fields, "reservation": standing.reservation_id, "sale_url": "/", "refresh_seconds": 1}
        response = render(request, "shop/waiting.html", context)
    response["Cache-Control"] = "no-store"
    return response
