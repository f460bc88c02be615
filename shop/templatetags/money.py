"""Money, discounts and moments as text: `{{ offer.price_minor|money:offer.currency }}`, `{{ ms|at_time }}`.

Money stays an integer of minor units from the database to the page; no float ever holds a price.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: Sign and number of decimals. CNY keeps the bare sign, so JPY wears the prefix that tells the two apart.
CURRENCIES = {"CNY": ("¥", 2), "USD": ("$", 2), "EUR": ("€", 2), "JPY": ("JP¥", 0)}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@register.filter
def money(minor: int, currency: str) -> str:
    """Return `129900, "CNY"` as `¥1,299.00`; a currency without a sign of its own as `1,299.00 XYZ`."""
    sign, decimals = CURRENCIES.get(currency, ("", 2))
    whole, fraction = divmod(abs(minor), 10**decimals)
    amount = f"{whole:,}.{fraction:0{decimals}d}" if decimals else f"{whole:,}"
    minus = "-" if minor < 0 else ""
    return f"{minus}{sign}{amount}" if sign else f"{minus}{amount} {currency}"


@register.filter
def percent_off(price_minor: int, list_price_minor: int | None) -> int:
    """Return the whole percent that a price is below its list price, rounded down: never promise more than is given."""
    if not list_price_minor or price_minor >= list_price_minor:
        return 0
    return (list_price_minor - price_minor) * 100 // list_price_minor


@register.filter
def at_time(ms: int) -> SafeString:
    """Return a `<time>` in the server's time zone; the pages' script rewrites it in the reader's own."""
    moment = timezone.localtime(EPOCH + timedelta(milliseconds=ms))
    text = f"{formats.date_format(moment, 'DATETIME_FORMAT')} {moment.tzname()}"
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(timespec="seconds"), text)
