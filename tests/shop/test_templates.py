"""The pages: money is exact, nothing is inline, nothing comes from elsewhere, and the sale page stays small."""

import gzip
import hashlib
import re
from base64 import b64decode
from dataclasses import dataclass, fields
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.template.loader import get_template, render_to_string
from hypothesis import given
from hypothesis import strategies as st

from shop import catalog, demo_people, pages
from shop.templatetags.money import CURRENCIES, at_time, money, percent_off
from shop.templatetags.units import choices

SHOP = Path(__file__).resolve().parents[2] / "shop"
TEMPLATES = sorted((SHOP / "templates").rglob("*.html"))
VENDOR = SHOP / "static" / "vendor"
PICTURES = sorted((SHOP / "static" / "shop" / "products").glob("*.svg"))

#: Bytes of a sale page with its styles and script, compressed: what a phone on a slow net can have in a second.
SALE_PAGE_MAXIMUM = 20_000
#: Bytes of a vendored script within which it says its version.
VERSION_WITHIN = 200
#: Bytes of one product picture, before compression.
PICTURE_MAXIMUM = 3_000

NOON_MS = 1_700_000_000_000

amounts = st.integers(min_value=-(10**15), max_value=10**15)
prices = st.integers(min_value=0, max_value=10**12)


# --- Money --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (129_900, "CNY", "¥1,299.00"),
        (1_299, "USD", "$12.99"),
        (5, "EUR", "€0.05"),
        (45_000, "JPY", "JP¥45,000"),
        (1_299, "XYZ", "12.99 XYZ"),
        (-100, "USD", "-$1.00"),
        (0, "CNY", "¥0.00"),
    ],
)
def test_money_reads_as_people_write_it(minor, currency, text):
    """Sign, thousands and decimals are those of the currency."""
    assert money(minor, currency) == text


@given(amounts, st.sampled_from([*CURRENCIES, "XYZ"]))
def test_no_digit_of_an_amount_is_lost(minor, currency):
    """The digits of the text are the digits of the minor units, whatever their size."""
    digits = re.sub(r"\D", "", money(minor, currency))

    assert int(digits) == abs(minor)


@given(prices, prices)
def test_a_discount_never_promises_more_than_is_given(price, list_price):
    """The percent is whole, from 0 to 100, and taking it off the list price gives the price or more."""
    off = percent_off(price, list_price)

    assert 0 <= off <= 100
    if off:
        assert price * 100 <= list_price * (100 - off)


def test_no_list_price_is_no_discount():
    """An offer without a list price, or above it, shows none."""
    assert percent_off(100, None) == percent_off(100, 0) == percent_off(100, 100) == percent_off(100, 50) == 0


def test_a_moment_is_a_time_that_programs_can_read(settings):
    """The element carries the instant with its offset, the text the server's zone by name."""
    settings.TIME_ZONE = "Asia/Shanghai"

    assert at_time(NOON_MS).startswith('<time datetime="2023-11-15T06:13:20+08:00">')
    assert at_time(NOON_MS).endswith("CST</time>")


def test_units_are_counted_from_one_to_the_limit():
    """A shopper may choose from one unit to as many as the offer allows."""
    assert list(choices(3)) == [1, 2, 3]


# --- What a page may not contain ------------------------------------------------------------------------------------


class Inline(HTMLParser):
    """Collects what the content security policy would refuse, and what another host would have to serve."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.found += [f"<{tag} {name}>" for name in names if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and not names.get("src")):
            self.found.append(f"<{tag}>")
        self.found += [value for value in names.values() if re.match(r"(https?:)?//", value or "")]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_compiles_and_keeps_to_the_policy(path):
    """No inline style, script or handler, and nothing from another host."""
    get_template(str(path.relative_to(SHOP / "templates")))

    inline = Inline()
    inline.feed(path.read_text())

    # The pages for bad times need no other file; their policy names the digest of that style.
    assert inline.found == (["<style>"] if path.name == "degraded.html" else [])


@pytest.mark.parametrize("path", sorted((SHOP / "static" / "shop").glob("*.js")), ids=lambda path: path.name)
def test_a_script_only_imports_from_beside_itself(path):
    """No other host, and no text for people: sentences come translated, in the page's data attributes."""
    source = path.read_text()

    assert all(name.startswith("./") for name in re.findall(r"from '([^']+)'", source))
    assert "http" not in source
    assert not re.search(r"(textContent|innerHTML) = ['`][^'`]*[A-Za-z]{3}", source.replace("${face", ""))


# --- The pages as they come out -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    id: int = 7
    title: str = "Aurora <headphones>"
    description: str = "Forty hours of quiet."
    picture: str = "shop/products/headphones.svg"
    picture_width: int = 480
    picture_height: int = 360
    price_minor: int = 129_900
    list_price_minor: int = 199_900
    currency: str = "CNY"
    quantity: int = 100
    available: int = 82
    unit_limit: int = 2


def sale(phase="open", offers=(Offer(),)):
    times = {"opens_at_ms": NOON_MS, "closes_at_ms": NOON_MS + 60_000}
    return SimpleNamespace(slug="flash-1", title="Flash sale", phase=phase, offers=offers, **times)


def order(state="awaiting_payment"):
    awaiting = state == "awaiting_payment"
    return {
        "number": "A-1001",
        "state": state,
        "title": "Aurora",
        "picture": "shop/products/headphones.svg",
        "units": 2,
        "total_minor": 259_800,
        "currency": "CNY",
        "placed_at_ms": NOON_MS,
        "pay_until_ms": NOON_MS + 60_000 if awaiting else None,
        "can_pay": awaiting,
        "can_cancel": awaiting,
        "history": [(NOON_MS, "Order placed")],
    }


@pytest.mark.parametrize("phase", ["scheduled", "open", "paused", "sold_out", "closed"])
def test_a_sale_page_says_price_and_units_in_every_phase(phase):
    """Price, discount and units left are on the page, escaped, and the form works without script."""
    page = render_to_string("shop/sale.html", {"sale": sale(phase)})

    assert "¥1,299.00" in page
    assert "−35%" in page
    assert "<strong data-available>82</strong>" in page
    assert "Aurora &lt;headphones&gt;" in page
    assert '<form method="post" action="/sales/flash-1/ticket">' in page
    assert ("<noscript>" in page) == (phase == "scheduled")


@pytest.mark.parametrize(
    ("quantity", "available", "held", "is_scarce", "may_come_back"),
    [
        (100, 11, 0, False, False),
        (100, 10, 5, True, False),
        (5, 1, 0, True, False),
        (5, 2, 0, False, False),
        (5, 0, 2, False, True),
        (5, 0, 0, False, False),
    ],
)
def test_a_sale_page_says_what_is_nearly_gone(quantity, available, held, is_scarce, may_come_back):
    """Also without script: the last tenth is almost gone, and what others hold unpaid may come back."""
    facts = {field.name: getattr(Offer, field.name) for field in fields(Offer)}
    offer = catalog.Offer(**{**facts, "quantity": quantity, "available": available}, held=held)

    page = render_to_string("shop/sale.html", {"sale": sale(offers=(offer,))})

    assert bool(re.search(r'<em data-scarce="\d+">', page)) == is_scarce
    assert bool(re.search(r"data-held>\s*<span data-held-units>2</span>", page)) == may_come_back


def test_every_text_that_the_script_asks_for_is_on_the_page():
    """A state without its text would show an empty button."""
    script = (SHOP / "static" / "shop" / "sale.js").read_text()
    page = render_to_string("shop/sale.html", {"sale": sale()})
    asked = set(re.findall(r"text\('([\w-]+)'\)|show\('(\w+)'", script))
    labels = {name for pair in asked for name in pair if name} - {"busy", "refused"} | {"busy", "again"}

    assert {name for name in labels if f'data-text-{name}="' not in page} == set()


def test_the_sale_page_is_the_same_for_everybody():
    """Nothing of the request goes into it: no token, no name."""
    page = render_to_string("shop/sale.html", {"sale": sale()})

    assert "csrf" not in page


@pytest.mark.parametrize("state", ["held", "placed", "paid", "expired", "released", "refused"])
def test_the_waiting_page_shows_the_one_state_it_is_in(state):
    """One section is visible; only a held reservation reloads by itself, and only without script."""
    context = {"reservation": "7-abc", "state": state, "sale_url": "/", "order_url": None, "refresh_seconds": 2}
    page = render_to_string("shop/waiting.html", context)

    assert re.findall(r'<section data-when="(\w+)">', page) == [state]
    assert ('<noscript><meta http-equiv="refresh" content="2"></noscript>' in page) == (state == "held")


@pytest.mark.parametrize("state", ["awaiting_payment", "paid", "cancelled", "expired", "refund_due", "refunded"])
def test_an_order_can_be_paid_exactly_while_it_waits_for_payment(state):
    """The forms are there as long as they would work."""
    page = render_to_string("shop/order.html", {"order": order(state)})

    assert ("/orders/A-1001/pay" in page) == (state == "awaiting_payment")
    assert ("/orders/A-1001/cancel" in page) == (state == "awaiting_payment")


def test_empty_lists_say_so():
    """No sales and no orders are pages too."""
    assert "No sale at the moment" in render_to_string("shop/sales.html", {"sales": []})
    assert "No orders yet" in render_to_string("shop/orders.html", {"orders": []})


def test_a_page_breaks_without_anything_in_its_context():
    """When all is broken, the page that says so needs nothing."""
    assert "Something broke" in render_to_string("500.html")


def test_the_hint_of_the_demo_names_people_who_exist():
    """The sign-in page and the demo agree on a name and a password."""
    page = render_to_string("registration/login.html", {"demo_hint": True, "form": "", "next": ""})

    assert f"<strong>{demo_people.SHOPPER_PASSWORD}</strong>" in page
    assert "<strong>shopper1</strong>" in page


def test_the_sale_page_fits_through_a_narrow_door():
    """Page, styles and script, compressed as they are sent, in both languages."""
    files = [
        *VENDOR.glob("pico-*/*.css"),
        *(SHOP / "static" / "shop" / name for name in ("shop.css", "countdown.js", "sale.js")),
    ]
    for language in ("en", "zh-hans"):
        page = b64decode(pages._rendered("shop/sale.html", {"sale": sale("scheduled")}, language)["gzipped"])

        assert len(page) + sum(len(gzip.compress(file.read_bytes())) for file in files) < SALE_PAGE_MAXIMUM


# --- What lies beside the pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_is_small_and_plain(picture):
    """Small, of the size the pages reserve for it, without style or script."""
    source = picture.read_text()

    assert len(source) < PICTURE_MAXIMUM
    assert 'viewBox="0 0 480 360"' in source
    assert not re.search(r"<style|<script|style=|href", source)


@pytest.mark.parametrize("vendor", [VENDOR, SHOP.parent / "tests" / "browser" / "vendor"], ids=["shop", "tests"])
def test_what_others_wrote_is_what_the_table_says(vendor):
    """Every vendored file is in the table with its checksum, the table names no other; scripts tell their version."""
    rows = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (vendor / "README.md").read_text())
    present = {str(file.relative_to(vendor)) for file in vendor.glob("*/**/*") if file.is_file()}

    assert {name for name, _ in rows} == present
    for name, checksum in rows:
        content = (vendor / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum
        version = name.partition("/")[0].rpartition("-")[2]
        assert version.encode() in content[:VERSION_WITHIN] or not name.endswith(".js")
