"""Where a reservation stands: JSON for polls, the waiting page for a browser."""

from typing import Any

from inventory.outcomes import InventoryUnavailable, Standing
from shop import buyers, buying, catalog, levels, replies, stencils, tickets, words
from shop.asked import Asked
from shop.away import DATABASE_AWAY
from shop.hot import hot
from shop.replies import HTML, Reply

#: Milliseconds until a waiting page asks again: soon while the drain works, seldom when only time or money moves it.
POLL_HELD_MS = 500
POLL_PLACED_MS = 3_000
#: Seconds until a waiting page without script loads itself again.
REFRESH_SECONDS = 1
#: The cookie that keeps a receipt over a reload; bound to its reservation by its path.
RECEIPT_COOKIE = "receipt"
#: Seconds such a receipt is kept: longer than any claim window after a loss of Redis.
RECEIPT_SECONDS = 24 * 3600


def receipt_cookie(status_url: str, receipt: str) -> tuple[str, str]:
    """Lets the browser send the receipt whenever it asks for this reservation."""
    return replies.cookie(RECEIPT_COOKIE, receipt, RECEIPT_SECONDS, path=status_url)


@hot("GET")
def status(asked: Asked, reservation_id: str) -> Reply:
    """The buyer's own reservation; anybody else's does not exist."""
    buyer = buyers.known(asked.cookies)
    if buyer is None:
        return words.sign_in(asked, asked.path)
    receipt = asked.environ.get("HTTP_X_RECEIPT") or asked.cookies.get(RECEIPT_COOKIE)
    try:
        standing = buying.standing(reservation_id, buyer, receipt)
    except InventoryUnavailable:
        return words.reply(asked, "BACK_SOON")
    if standing is None:
        return words.reply(asked, "NOT_FOUND", back_url="/")
    return _show(asked, standing)


def _show(asked: Asked, standing: Standing) -> Reply:
    facts = _facts(standing)
    if not asked.wants_page:
        return replies.of_json(facts)
    if standing.state in ("placed", "paid") and facts["order_url"]:
        return replies.see_other(facts["order_url"])
    shared = {
        "state": standing.state,
        "poll_after_ms": facts["poll_after_ms"],
        "refresh_seconds": levels.slower(REFRESH_SECONDS),
    }
    own = {"reservation": standing.reservation_id, "sale_url": _sale_url(standing)}
    own |= {name: str(facts[name]) for name in ("ahead", "order_url") if facts.get(name)}
    return Reply(200, stencils.draw("shop/waiting.html", asked.language, shared, own), HTML, [replies.NEVER_KEPT])


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
    return None if standing.waiting is None else max(0, standing.waiting - 1)


def _sale_url(standing: Standing) -> str:
    """Where the buyer came from, as far as anybody knows."""
    offer_id = tickets.offer_of(standing.reservation_id)
    try:
        sales = catalog.sales()
    except DATABASE_AWAY:
        return "/"
    return next((f"/sales/{sale.slug}/" for sale in sales if sale.offer(offer_id)), "/")
