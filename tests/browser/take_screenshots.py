"""The README's pictures, taken of a running sale: `.venv/bin/python -m tests.browser.take_screenshots`.

It starts a shop of its own with a sale and a crowd, which takes two minutes, and writes over `docs/pictures/`.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

from shop.demo_people import SHOPPER_PASSWORD, STAFF_NAME, STAFF_PASSWORD
from shop.local.state import State
from tests.browser import chromium, quickly
from tests.browser.visitor import DESK, PHONE, Visitor
from tests.stories.running_shop import ROOT, RunningShop

PICTURES = ROOT / "docs" / "pictures"
SALE = "evening-drop"
#: Seconds until it opens: enough to sign everybody in.
OPENS_IN_SECONDS = 40
#: Milliseconds within which it has opened.
OPENED_MS = 90_000
#: Who buys besides the one with the phone; of so many, one does not pay.
CROWD, UNPAID = 18, 3
#: Milliseconds between two of them, so that the console's charts have something to show.
PAUSE_MS = 1_500


def main() -> None:
    program = chromium.find()
    if program is None:
        sys.exit(chromium.MISSING)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with a_running_shop() as shop, sync_playwright() as playwright:
        browser = chromium.launch(playwright, program)
        crowd = [shop.signed_in(f"shopper{number}") for number in range(2, 2 + CROWD)]
        shop.manage("demo", "--sale", SALE, "--quantity", "20", "--opens-in", str(OPENS_IN_SECONDS))
        console = _console(_visitor(browser, shop, viewport=DESK, color_scheme="dark"))
        phone = _visitor(browser, shop, viewport=PHONE, device_scale_factor=2)

        _at_the_opening(phone)
        for number, buyer in enumerate(crowd):
            order_url = quickly.order(buyer, SALE)
            if number % UNPAID:
                quickly.pay(buyer, order_url)
            console.page.wait_for_timeout(PAUSE_MS)
        _take(console, "console")
        _an_order(_visitor(browser, shop, viewport=PHONE, device_scale_factor=2, color_scheme="dark", locale="zh-CN"))


@contextmanager
def a_running_shop() -> Iterator[RunningShop]:
    folder = Path(tempfile.mkdtemp(prefix="seckill-pictures-"))
    folder.chmod(0o755)  # the account of the servers passes through
    shop = RunningShop(folder / "state")
    try:
        yield shop
    finally:
        shop.stop()
        State(shop.state).remove()
        shutil.rmtree(folder)


def _visitor(browser: Any, shop: RunningShop, **look: Any) -> Visitor:
    return Visitor(browser.new_context(base_url=shop.url, **{"locale": "en-GB"} | look))


def _at_the_opening(phone: Visitor) -> None:
    """The countdown, and the button that has woken."""
    page = phone.sign_in("shopper1", SHOPPER_PASSWORD, then=f"/sales/{SALE}/")
    expect(page.locator("[role=timer]")).to_have_text("00:05", timeout=OPENED_MS)
    _take(phone, "countdown")
    expect(page.locator("[data-offer]")).to_have_attribute("data-state", "ready", timeout=OPENED_MS)
    page.mouse.move(0, 0)
    _take(phone, "on-sale")


def _console(staff: Visitor) -> Visitor:
    page = staff.page
    page.goto(f"/admin/login/?next=/admin/console/{SALE}/")
    page.fill("[name=username]", STAFF_NAME)
    page.fill("[name=password]", STAFF_PASSWORD)
    page.click("[type=submit]")
    page.wait_for_url(f"**/admin/console/{SALE}/")
    return staff


def _an_order(phone: Visitor) -> None:
    page = phone.sign_in("shopper1", SHOPPER_PASSWORD, then=f"/sales/{SALE}/")
    page.click("[data-buy]")
    page.wait_for_url("**/orders/*/")
    page.wait_for_load_state("networkidle")
    _take(phone, "order")


def _take(visitor: Visitor, name: str) -> None:
    visitor.page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main()
