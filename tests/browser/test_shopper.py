"""What shoppers see, in a real browser: from the countdown to the paid order, and everything that may go wrong."""

from collections.abc import Callable

from playwright.sync_api import expect

from shop.demo_people import SHOPPER_PASSWORD
from tests.browser.visitor import PHONE, Visitor
from tests.stories.running_shop import RunningShop

Newcomer = Callable[..., Visitor]


def test_the_button_wakes_and_one_click_buys(shop: RunningShop, newcomer: Newcomer) -> None:
    """Wait on a phone; at T0 the button wakes without a reload; buy, placed, pay."""
    shop.manage("demo", "--sale", "wakes", "--quantity", "5", "--opens-in", "15")
    page = newcomer(viewport=PHONE).sign_in("shopper1", SHOPPER_PASSWORD, then="/sales/wakes/")
    expect(page.locator("[data-offer]")).to_have_attribute("data-state", "waiting")
    page.evaluate("window.here = true")

    expect(page.locator("[data-offer]")).to_have_attribute("data-state", "ready")
    assert page.evaluate("window.here")
    page.click("[data-buy]")
    page.wait_for_url("**/orders/*/")
    page.click("[data-buy]")
    page.click("[value=pay]")
    page.wait_for_url("**/orders/*/")

    expect(page.locator("[data-phase]")).to_have_text("Paid")
