"""The hosted page on which a shopper pays or declines a charge."""

from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template

from .provider_ledger import EXPIRED, FAILED, PENDING, SUCCEEDED, Charge

PAGE = Template(Path(__file__).with_name("provider_page.html").read_text(encoding="utf-8"))

#: The page needs nothing but its own style. There is no `form-action`: browsers apply it to the redirect as
#: well, and the way back leads to another site.
SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

HEADERS = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": SECURITY_POLICY}

FORM = """<form method="post">
<button class="main" name="action" value="pay">Pay $amount</button>
<button name="action" value="decline">Decline</button>
</form>"""

NOTICE = """<p class="notice" role="status">$notice</p>
<a class="main" href="$return_url">Back to the shop</a>"""

NOTICES = {
    SUCCEEDED: "This payment is complete.",
    FAILED: "This payment was declined. Nothing was charged.",
    EXPIRED: "The time to pay is over. Nothing was charged.",
}

#: Decimal places of the better-known currencies that do not have two (ISO 4217).
DECIMALS = {"ISK": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}


def render(charge: Charge) -> bytes:
    """The page of a charge in its present state, in which only a pending charge has a form."""
    amount = formatted(charge.amount_minor, charge.currency)
    state = charge.state
    choice = Template(FORM if state == PENDING else NOTICE).substitute(
        amount=amount, notice=NOTICES.get(state), return_url=escape(charge.return_url)
    )
    return PAGE.substitute(amount=amount, reference=escape(charge.reference), choice=choice).encode()


def formatted(amount_minor: int, currency: str) -> str:
    """`CNY 1,299.00`, `JPY 1,299`: the code and not a sign, as ¥ and $ each mean several currencies."""
    return f"{currency} {Decimal(amount_minor).scaleb(-DECIMALS.get(currency, 2)):,f}"
