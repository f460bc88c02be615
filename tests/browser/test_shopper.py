"""What shoppers see, in a real browser: from the countdown to the paid order, and all that may come between."""

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from shop.demo_people import SHOPPER_PASSWORD
from tests.browser import quickly
from tests.browser.visitor import PHONE, Visitor
from tests.crowd import eventually
from tests.stories.running_shop import RunningShop

Newcomer = Callable[..., Visitor]

#: Seconds until a sale opens that somebody watches: they must have found it before its last ten.
OPENS_IN_SECONDS = "20"
#: Milliseconds until it certainly has opened.
OPENED_MS = 60_000
#: A device whose clock is an hour slow, as clocks of devices are.
SLOW_CLOCK = "const now = Date.now; Date.now = () => now() - 3_600_000"
#: Everything that the page's voice has said, kept beside it: the voice itself keeps its last sentence alone.
REMEMBER_THE_VOICE = """() => {
  const voice = document.querySelector('[data-live]');
  window.said = [];
  new MutationObserver(() => window.said.push(voice.textContent)).observe(voice, { childList: true });
}"""


def is_in_state(page: Page, state: str) -> None:
    expect(page.locator("[data-offer]")).to_have_attribute("data-state", state)


def enter(visitor: Visitor, name: str, slug: str) -> Page:
    return visitor.sign_in(name, SHOPPER_PASSWORD, then=f"/sales/{slug}/")


def orders_of(visitor: Visitor) -> list[dict[str, Any]]:
    answer = visitor.context.request.get("/orders/", headers={"Accept": "application/json"})
    return list(answer.json()["orders"])


def test_the_button_wakes_and_one_click_buys(shop: RunningShop, newcomer: Newcomer) -> None:
    """Wait on a phone whose clock is wrong; at T0 the button wakes, in the same page and focus; buy, placed, pay."""
    phone = newcomer(viewport=PHONE)
    phone.context.add_init_script(SLOW_CLOCK)
    phone.sign_in("shopper1", SHOPPER_PASSWORD)
    shop.manage("demo", "--sale", "wakes", "--quantity", "5", "--opens-in", OPENS_IN_SECONDS)
    page = phone.page
    page.goto("/sales/wakes/")
    is_in_state(page, "waiting")
    expect(page.locator("[role=timer]")).to_have_text(re.compile(r"^00:[012]\d$"))
    page.evaluate(REMEMBER_THE_VOICE)
    page.focus("[data-buy]")

    expect(page.locator("[data-offer]")).to_have_attribute("data-state", "ready", timeout=OPENED_MS)
    assert page.evaluate("window.said") == ["Opens in 10 seconds", "On sale now"]
    expect(page.locator("[data-buy]")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/*/")
    expect(page.locator("[role=timer]")).to_have_text(re.compile(r"^0[12]:\d\d$"))
    page.click("[data-buy]")
    page.click("[value=pay]")
    page.wait_for_url("**/orders/*/")

    expect(page.locator("[data-phase]")).to_have_text("Paid")


def test_what_is_mine_shows_on_a_second_device(shop: RunningShop, newcomer: Newcomer) -> None:
    """Bought elsewhere: the button is asleep, and a link leads to the order."""
    shop.manage("demo", "--sale", "mine", "--quantity", "5")
    order_url = quickly.order(shop.signed_in("shopper2"), "mine")

    page = enter(newcomer(viewport=PHONE), "shopper2", "mine")

    is_in_state(page, "placed")
    expect(page.locator("[data-guest]")).to_be_hidden()
    page.click("[data-yours] a")
    page.wait_for_url(f"**{order_url}")


def test_a_unit_that_is_not_paid_for_comes_back(shop: RunningShop, newcomer: Newcomer) -> None:
    """One watches the last unit go, hears that it may come back, and that it did; the other sees that time ran out."""
    shop.manage("demo", "--sale", "returns", "--quantity", "1", "--hold", "5")
    watcher, buyer = newcomer().page, newcomer()
    watcher.goto("/sales/returns/")
    is_in_state(watcher, "ready")

    page = enter(buyer, "shopper3", "returns")
    page.click("[data-buy]")
    is_in_state(watcher, "sold_out")
    expect(watcher.locator("[data-held]")).to_have_text(re.compile("1 held by others and not paid yet"))
    expect(watcher.locator("[data-live]")).to_have_text("Sold out")
    page.wait_for_url("**/orders/*/")

    expect(page.locator("[data-phase]")).to_have_text("Time ran out")
    is_in_state(watcher, "ready")
    expect(watcher.locator("[data-note]")).to_have_text("One came back: it is yours if you are quick.")


def test_a_pause_shows_and_passes(shop: RunningShop, newcomer: Newcomer) -> None:
    """Staff pause and resume: who watches sees both, without a reload."""
    shop.manage("demo", "--sale", "rests", "--quantity", "5")
    page = newcomer().page
    page.goto("/sales/rests/")
    is_in_state(page, "ready")

    shop.manage("pause", "rests")
    is_in_state(page, "paused")
    shop.manage("resume", "rests")
    is_in_state(page, "ready")


def test_two_clicks_are_one_reservation(shop: RunningShop, newcomer: Newcomer) -> None:
    """A double click buys once."""
    shop.manage("demo", "--sale", "double", "--quantity", "5", "--limit", "5")
    visitor = newcomer()
    page = enter(visitor, "shopper4", "double")
    is_in_state(page, "ready")

    page.dblclick("[data-buy]")
    page.wait_for_url("**/orders/*/")

    assert len(orders_of(visitor)) == 1


def test_a_lost_answer_and_a_reload_are_one_reservation(shop: RunningShop, newcomer: Newcomer) -> None:
    """The click arrives and its answer does not: the page says so and tries again; reloaded, it knows the click."""
    shop.manage("demo", "--sale", "lost", "--quantity", "5", "--limit", "5")
    visitor = newcomer()
    page = enter(visitor, "shopper5", "lost")
    is_in_state(page, "ready")
    lost: list[int] = []

    def lose(route: Any) -> None:
        lost.append(route.fetch().status)
        route.abort()

    page.route("**/sales/lost/buy", lose)
    page.click("[data-buy]")
    is_in_state(page, "busy")
    expect(page.locator("[data-note]")).to_have_text(re.compile(r"No answer yet\. Your click is safe .* Next try in"))
    page.unroute("**/sales/lost/buy")
    visitor.forgive("net::ERR_FAILED")
    page.reload()
    expect(page.locator("[data-note]")).to_have_text(re.compile("Your last click has no answer yet"))
    page.click("[data-buy]")
    page.wait_for_url("**/orders/*/")

    assert lost[0] == 202
    assert len(orders_of(visitor)) == 1


def test_the_waiting_page_waits(shop: RunningShop, newcomer: Newcomer, stopped: Callable[[str], Any]) -> None:
    """While nobody writes orders down it says what is safe, survives a reload, and then leads to the order."""
    shop.manage("demo", "--sale", "waits", "--quantity", "5")
    page = enter(newcomer(viewport=PHONE), "shopper6", "waits")
    is_in_state(page, "ready")

    with stopped("worker"):
        page.click("[data-buy]")
        page.wait_for_url("**/reservations/*")
        expect(page.locator("h1:visible")).to_have_text("Reserved for you")
        page.reload()
        expect(page.locator("h1:visible")).to_have_text("Reserved for you")
    page.wait_for_url("**/orders/*/")


def test_everything_without_javascript(shop: RunningShop, newcomer: Newcomer) -> None:
    """By forms alone: sign in on the way, one step to go, the waiting page reloads itself, pay; cancel another."""
    shop.manage("demo", "--sale", "plain", "--quantity", "5", "--limit", "2")
    page = newcomer(viewport=PHONE, java_script_enabled=False).page
    page.goto("/sales/plain/")
    page.click("[data-buy]")
    page.fill("[name=username]", "shopper7")
    page.fill("[name=password]", SHOPPER_PASSWORD)
    page.click("main form button")

    buys_by_forms(page)
    page.click("[data-buy]")
    page.click("[value=pay]")
    page.wait_for_url("**/orders/*/")
    expect(page.locator("[data-phase]")).to_have_text("Paid")

    page.goto("/sales/plain/")
    buys_by_forms(page)
    page.click("summary")
    page.click("details button")
    expect(page.locator("[data-phase]")).to_have_text("Cancelled")


def buys_by_forms(page: Page) -> None:
    page.click("[data-buy]")
    expect(page.locator("h1")).to_have_text("One step to go")
    page.click("[data-buy]")
    page.wait_for_url("**/orders/*/")


def test_a_page_that_says_back_soon_comes_back(shop: RunningShop, newcomer: Newcomer) -> None:
    """The constant page counts down and loads itself until the shop is there again; no style or script is refused."""
    page = newcomer().page
    shop.manage("level", "STATIC", "--for", "8", "--reason", "browser test")
    eventually(lambda: page.goto("/").status == 503)  # type: ignore[union-attr]
    expect(page.locator("[data-left]")).to_be_visible()

    expect(page.locator("h1")).to_have_text("Sales")


def test_the_shop_in_chinese(shop: RunningShop, newcomer: Newcomer) -> None:
    """A browser that asks for Chinese gets it everywhere, dates and numbers too; the switch changes it, and back."""
    shop.manage("demo", "--sale", "chinese", "--quantity", "5")
    page = newcomer(viewport=PHONE, locale="zh-CN").sign_in("shopper8", SHOPPER_PASSWORD, then="/sales/chinese/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.locator("[data-buy]")).to_have_text("立即抢购")
    page.click("[data-buy]")
    page.wait_for_url("**/orders/*/")
    expect(page.locator("[data-phase]")).to_have_text("待付款")
    expect(page.locator(".history time").first).to_have_text(re.compile(r"^\d{4}年\d{1,2}月\d{1,2}日"))
    page.click("summary")
    page.click("details button")
    expect(page.locator("[data-phase]")).to_have_text("已取消")
    number = page.url.split("/")[-2]
    assert re.findall(r"[A-Za-z]{3,}", page.inner_text("main").replace(number, "")) == ["Aurora", "headphones"]

    page.click("[name=language]")
    expect(page.locator("[data-phase]")).to_have_text("Cancelled")
    page.click("[name=language]")
    expect(page.locator("[data-phase]")).to_have_text("已取消")
