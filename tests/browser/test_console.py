"""What staff see in the middle of a sale, in a real browser, and what their buttons do to it."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from shop.demo_people import SHOPPER_PASSWORD, STAFF_NAME, STAFF_PASSWORD
from tests.browser import quickly
from tests.browser.visitor import DESK, PHONE, Viewport, Visitor
from tests.stories.running_shop import RunningShop

Newcomer = Callable[..., Visitor]


def enter(visitor: Visitor, slug: str) -> Page:
    """The console of a sale, as somebody on duty opens it."""
    page = visitor.page
    page.goto(f"/admin/login/?next=/admin/console/{slug}/")
    page.fill("[name=username]", STAFF_NAME)
    page.fill("[name=password]", STAFF_PASSWORD)
    page.click("[type=submit]")
    page.wait_for_url(f"**/admin/console/{slug}/")
    return page


def test_the_console_shows_the_sale_moving_and_pauses_it(shop: RunningShop, newcomer: Newcomer) -> None:
    """Somebody buys: the funnel and the stock say so without a reload. Staff press pause, and a buyer hears it."""
    shop.manage("demo", "--sale", "watched", "--quantity", "5")
    console = enter(newcomer(), "watched")
    expect(console.locator("[data-now]")).to_have_text("On sale")
    expect(console.locator("[data-step=reserved] strong")).to_have_text("0")
    console.evaluate("window.stayed = true")

    quickly.order(shop.signed_in("shopper7"), "watched")
    expect(console.locator("[data-step=placed] strong")).to_have_text("1")
    expect(console.locator("[data-stores] td").nth(1)).to_have_text("4")
    assert console.evaluate("window.stayed") is True
    for chart in ("stock", "rates", "p95"):
        expect(console.locator(f"[data-chart={chart}] canvas")).to_be_visible()

    console.click("text=Pause")
    expect(console.locator("h1")).to_have_text(re.compile("^Pause"))
    console.click("main form button")
    expect(console.locator("[role=status].success")).to_contain_text("is paused")
    expect(console.locator("[data-now]")).to_have_text("Paused")
    expect(console.locator("[data-events]")).to_contain_text("pause")

    late = newcomer()
    late.sign_in("shopper8", SHOPPER_PASSWORD, then="/sales/watched/")
    expect(late.page.locator("[data-offer]")).to_have_attribute("data-state", "paused")


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_from_using_it(shop: RunningShop, newcomer: Newcomer, viewport: Viewport, scheme: str) -> None:
    """Nothing that axe finds grave, and nothing wider than the screen, on the console and on a page that asks."""
    visitor = newcomer(viewport=viewport, color_scheme=scheme)
    page = enter(visitor, "weekend")
    expect(page.locator("[data-now]")).to_have_text("Opens soon")

    for address in ("/admin/console/weekend/", "/admin/console/weekend/pause/", "/admin/console/"):
        page.goto(address)
        assert visitor.obstacles() == []
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
