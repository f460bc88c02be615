"""The click: a ticket, then Buy."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from inventory.outcomes import Outcome
from shop import answers, buyers, buying, catalog, funnel, levels, limits, tickets, wishes
from shop.buyers import Buyer
from shop.catalog import Offer, Sale
from shop.views import reservation
from shop.views.methods import takes
from shop.wishes import UNITS_MAXIMUM, BadWish


@takes("POST")
def ticket(request: HttpRequest, slug: str) -> HttpResponse:
    """The permission to press Buy: JSON for the page's script, a page with the button for a form."""
    sale_url = f"/sales/{slug}/"
    buyer = buyers.of(request)
    if wait := limits.of_click(request, buyer):
        return answers.slow_down(request, wait, back_url=sale_url)
    found = catalog.sale(slug)
    if found is None:
        return answers.answer(request, "NOT_FOUND", back_url="/")
    if buyer is None:
        return answers.sign_in(request, sale_url)
    try:
        wish = wishes.read(request)
        offer, units = found.offer(wish.whole("offer")), wish.whole("units", 1)
    except BadWish as bad:
        return answers.answer(request, bad.word, back_url=sale_url)
    if offer is None:
        return answers.answer(request, "NOT_FOUND", back_url=sale_url)

    refusal = buying.refusal(found, offer)
    if refusal:
        return answers.answer(request, refusal, back_url=sale_url)
    return _ticket(request, found, offer, buyer, units)


def _ticket(request: HttpRequest, sale: Sale, offer: Offer, buyer: Buyer, units: int | None) -> HttpResponse:
    sealed, issued = tickets.issue(offer.id, buyer)
    funnel.count(sale.slug, "ticket")
    facts = {"ticket": sealed, "expires_at_ms": issued.expires_at_ms}
    response: HttpResponse
    if answers.wants_page(request):
        response = render(request, "shop/ticket.html", {**facts, "sale": sale, "offer": offer, "units": units})
    else:
        response = JsonResponse(facts)
    response["Cache-Control"] = "no-store"
    if buyer.past_half_its_life:
        buyers.remember(response, buyer.id, buyer.device)
    return response


@takes("POST")
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    """The click itself. No query: the ticket says who, what and which reservation; Redis decides."""
    sale_url = f"/sales/{slug}/"
    buyer = buyers.of(request)
    if wait := limits.of_click(request, buyer):
        return answers.slow_down(request, wait, back_url=sale_url)
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
        funnel.clicked(slug, click.outcome)
    except BadWish as bad:
        return answers.answer(request, bad.word, back_url=sale_url)
    except tickets.TicketRefused:
        return answers.answer(request, "TICKET_REFUSED", back_url=sale_url)
    return _answer_click(request, click, sale_url, wish)


def _offered(slug: str, offer_id: int) -> bool:
    found = catalog.sale(slug)
    return found is not None and found.offer(offer_id) is not None


def _answer_click(request: HttpRequest, click: buying.Click, sale_url: str, wish: wishes.Wish) -> HttpResponse:
    status_url = f"/reservations/{click.reservation_id}"
    if click.outcome.yours and answers.wants_page(request):
        response = answers.see_other(status_url)
    elif click.outcome.yours:
        response = answers.answer(
            request,
            click.outcome,
            reservation=click.reservation_id,
            receipt=click.receipt,
            status_url=status_url,
            poll_after_ms=levels.slower(reservation.POLL_HELD_MS),
            expires_at_ms=None,
        )
    else:
        where: dict[str, Any] = {"status_url": status_url} if click.outcome is Outcome.UNKNOWN else {}
        again = answers.Again(request.path, tuple(wish.fields.items()))
        response = answers.answer(request, click.outcome, back_url=sale_url, again=again, **where)
    if click.receipt:
        reservation.keep_receipt(response, status_url, click.receipt)
    return response
