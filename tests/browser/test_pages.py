"""Every page, as a phone and a desk show it, light and dark, in both languages: nobody is shut out."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Route

from shop.demo_people import SHOPPER_PASSWORD
from tests.browser import quickly
from tests.browser.visitor import DESK, PHONE, Visitor
from tests.crowd import eventually
from tests.stories.running_shop import RunningShop

Newcomer = Callable[..., Visitor]
Stopped = Callable[[str], AbstractContextManager[None]]

#: CSS pixels that a thumb needs.
TARGET = 44
#: Whatever can be pressed or filled in, is seen, and is less tall than a thumb. (Of a card, all of it can be pressed.)
TOO_SMALL = f"""() => [...document.querySelectorAll('a, button, input, select, summary')]
  .filter((each) => each.checkVisibility() && each.type !== 'hidden' && !each.matches('.skip'))
  .map((each) => [each.outerHTML.slice(0, 80), (each.closest('.card') ?? each).getBoundingClientRect().height])
  .filter(([_, height]) => Math.round(height) < {TARGET})"""
#: Whether the page is wider than the window.
IS_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

LOOKS = [
    pytest.param({"viewport": PHONE, "color_scheme": "light", "locale": "zh-CN"}, id="phone-light-chinese"),
    pytest.param({"viewport": DESK, "color_scheme": "dark", "locale": "en-GB"}, id="desk-dark-english"),
    pytest.param({"viewport": PHONE, "color_scheme": "dark", "locale": "en-GB"}, id="phone-dark-english"),
]
#: What needs no story: a sale in each phase, forms, and what says that there is nothing.
EVERYBODYS = [
    *("/", "/sales/weekend/", "/sales/paused/", "/sales/closed/", "/sales/gone/", "/sales/few/"),
    *("/accounts/login/?next=/orders/", "/accounts/signup/", "/no-such-page", "/sales/no-such-sale/"),
]


@pytest.fixture(scope="module")
def stories(shop: RunningShop) -> dict[str, str]:
    """Orders of shopper10 in every state a shopper can bring about, by state; two sales that are all or nearly gone."""
    buyer = shop.signed_in("shopper10")
    for slug, quantity, hold in (
        ("gone", 1, 600),
        ("few", 10, 600),
        ("brief", 5, 1),
        ("calm", 5, 600),
        ("kept", 5, 600),
    ):
        shop.manage("demo", "--sale", slug, "--quantity", str(quantity), "--hold", str(hold), "--limit", "9")
    for _ in range(9):
        quickly.reserve(buyer, "few")
    quickly.reserve(shop.signed_in("shopper11"), "gone")
    made = {
        "expired": quickly.order(buyer, "brief"),
        "paid": quickly.order(buyer, "calm"),
        "cancelled": quickly.order(buyer, "calm"),
        "awaiting_payment": quickly.order(buyer, "kept"),
    }
    quickly.pay(buyer, made["paid"])
    buyer.send(f"{made['cancelled']}cancel")
    for state, order_url in made.items():
        eventually(lambda url=order_url, state=state: quickly.has_state(buyer, url, state))
    return made


@pytest.fixture(params=LOOKS)
def visitor(newcomer: Newcomer, request: pytest.FixtureRequest) -> Visitor:
    return newcomer(**request.param, reduced_motion="reduce")


def is_open_to_all(visitor: Visitor, *, ours: bool = True) -> None:
    """axe finds nothing grave; what can be pressed is large enough; nothing has to be scrolled sideways."""
    page = visitor.page
    assert visitor.obstacles() == []
    assert page.evaluate(TOO_SMALL) == [], page.url
    assert not page.evaluate(IS_WIDER), page.url
    if ours:
        assert page.evaluate("getComputedStyle(document.body).transitionDuration") == "0s", page.url


def test_everybodys_pages_are_open_to_all(stories: dict[str, str], visitor: Visitor) -> None:
    """The list, a sale in each phase, all gone and nearly gone, the forms, and what is not there."""
    for path in EVERYBODYS:
        visitor.page.goto(path, wait_until="networkidle")
        is_open_to_all(visitor)


def test_a_buyers_pages_are_open_to_all(stories: dict[str, str], visitor: Visitor) -> None:
    """Orders in each state, their list, a reservation that has ended, and a sale in which they have bought."""
    page = visitor.sign_in("shopper10", SHOPPER_PASSWORD, then="/orders/")
    for path in ("/orders/", *stories.values(), "/sales/calm/", "/reservations/7-nobody"):
        page.goto(path, wait_until="networkidle")
        is_open_to_all(visitor)
    page.goto(stories["awaiting_payment"])
    page.click("summary")
    is_open_to_all(visitor)
    page.click("[action$='/pay'] button")
    is_open_to_all(visitor, ours=False)


def test_the_pages_after_a_click_are_open_to_all(
    shop: RunningShop, newcomer: Newcomer, visitor: Visitor, stories: dict[str, str], stopped: Stopped
) -> None:
    """The ticket as a page, the waiting page while nothing is written down, and the refusals of a form."""
    page = visitor.sign_in("shopper10", SHOPPER_PASSWORD, then="/sales/kept/")
    with stopped("worker"):
        page.goto(quickly.reserve(shop.signed_in("shopper10"), "kept"))
        is_open_to_all(visitor)

    for slug in ("kept", "gone", "paused", "closed", "weekend"):
        page.goto(f"/sales/{slug}/")
        page.evaluate("document.querySelector('form[action$=ticket]').submit()")
        page.wait_for_url("**/ticket")
        is_open_to_all(visitor)


def test_an_empty_list_is_open_to_all(visitor: Visitor) -> None:
    """Somebody who has bought nothing."""
    visitor.sign_in("shopper19", SHOPPER_PASSWORD, then="/orders/")
    is_open_to_all(visitor)


def without_return(route: Route) -> None:
    """Without what makes the page come back by itself: it may do so after half a second, in the middle of the look."""
    answer = route.fetch()
    html, returns = re.subn(r"<noscript>.*</noscript>|<meta http-equiv.*>|<script .*</script>", "", answer.text())
    assert returns == 3
    route.fulfill(response=answer, body=html)


def test_a_page_for_bad_times_is_open_to_all(shop: RunningShop, visitor: Visitor) -> None:
    """The constant page, which brings its style with it."""
    shop.manage("level", "STATIC", "--for", "60", "--reason", "browser test")
    try:
        eventually(lambda: visitor.asks("/") == 503)
        visitor.page.route("/", without_return)
        visitor.page.goto("/")
        is_open_to_all(visitor)
    finally:
        shop.manage("level", "auto")
        eventually(lambda: visitor.asks("/") == 200)
