"""The click: a ticket, then Buy."""

from typing import Any

from django.utils import translation

from inventory.outcomes import Outcome
from shop import buyers, buying, catalog, funnel, levels, limits, replies, stencils, tickets, wishes, words
from shop.asked import Asked
from shop.buyers import Buyer
from shop.catalog import Offer, Sale
from shop.hot import hot
from shop.replies import HTML, Reply
from shop.templatetags.money import at_time
from shop.views import reservation
from shop.wishes import UNITS_MAXIMUM, BadWish


@hot("POST")
def ticket(asked: Asked, slug: str) -> Reply:
    """The permission to press Buy: JSON for the page's script, a page with the button for a form."""
    sale_url = f"/sales/{slug}/"
    buyer = buyers.known(asked.cookies)
    if wait := limits.of_click(asked.environ, buyer):
        return words.slow_down(asked, wait, back_url=sale_url)
    found = catalog.sale(slug)
    if found is None:
        return words.reply(asked, "NOT_FOUND", back_url="/")
    if buyer is None:
        return words.sign_in(asked, sale_url)
    try:
        wish = wishes.read(asked)
        offer, units = found.offer(wish.whole("offer")), wish.whole("units", 1)
    except BadWish as bad:
        return words.reply(asked, bad.word, back_url=sale_url)
    if offer is None:
        return words.reply(asked, "NOT_FOUND", back_url=sale_url)

    refusal = buying.refusal(found, offer)
    if refusal:
        return words.reply(asked, refusal, back_url=sale_url)
    return _ticket(asked, found, offer, buyer, units)


def _ticket(asked: Asked, sale: Sale, offer: Offer, buyer: Buyer, units: int | None) -> Reply:
    sealed, issued = tickets.issue(offer.id, buyer)
    funnel.count(sale.slug, "ticket")
    if asked.wants_page:
        shared = {"sale_slug": sale.slug, "offer": offer, "units": units}
        with translation.override(asked.language):  # the express lane has chosen none for the whole request
            own = {"ticket": sealed, "expires": at_time(issued.expires_at_ms)}
        page = stencils.draw("shop/ticket.html", asked.language, shared, own)
        made = Reply(200, page, HTML, [replies.NEVER_KEPT])
    else:
        made = replies.of_json({"ticket": sealed, "expires_at_ms": issued.expires_at_ms})
    if buyer.past_half_its_life:
        made.headers.append(buyers.renewal(buyer))
    return made


@hot("POST")
def buy(asked: Asked, slug: str) -> Reply:
    """The click itself. No query: the ticket says who, what and which reservation; Redis decides."""
    sale_url = f"/sales/{slug}/"
    buyer = buyers.known(asked.cookies)
    if wait := limits.of_click(asked.environ, buyer):
        return words.slow_down(asked, wait, back_url=sale_url)
    if buyer is None:
        return words.sign_in(asked, sale_url)
    try:
        wish = wishes.read(asked)
        offer_id = wish.whole("offer")
        units = wish.whole("units", 1, most=UNITS_MAXIMUM) or 1
        ticket = tickets.read(wish.text("ticket"), buyer)
        if offer_id is not None and offer_id != ticket.offer_id:
            return words.reply(asked, "MISMATCH", back_url=sale_url)
        if not catalog.has_offer(slug, ticket.offer_id):
            return words.reply(asked, "NOT_FOUND", back_url="/")
        click = buying.buy(ticket, units)
    except BadWish as bad:
        return words.reply(asked, bad.word, back_url=sale_url)
    except tickets.TicketRefused:
        return words.reply(asked, "TICKET_REFUSED", back_url=sale_url)
    funnel.clicked(slug, click.outcome)
    return _answer_click(asked, click, sale_url, wish)


def _answer_click(asked: Asked, click: buying.Click, sale_url: str, wish: wishes.Wish) -> Reply:
    status_url = f"/reservations/{click.reservation_id}"
    if click.outcome.yours and asked.wants_page:
        made = replies.see_other(status_url)
    elif click.outcome.yours:
        made = words.reply(
            asked,
            click.outcome,
            reservation=click.reservation_id,
            receipt=click.receipt,
            status_url=status_url,
            poll_after_ms=levels.slower(reservation.POLL_HELD_MS),
            expires_at_ms=None,
        )
    else:
        where: dict[str, Any] = {"status_url": status_url} if click.outcome is Outcome.UNKNOWN else {}
        again = words.Again(asked.path, wish.fields)
        made = words.reply(asked, click.outcome, back_url=sale_url, again=again, **where)
    if click.receipt:
        made.headers.append(reservation.receipt_cookie(status_url, click.receipt))
    return made
