"""Somebody with a real browser: what they do, and what their browser complains about."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page

AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js"
#: How bad it must be to fail a test: what keeps somebody from using the page.
GRAVE = ("serious", "critical")
#: Refusals that are answers. A browser calls an error whatever is not 2xx, though the page has a word for it.
_ANSWERS = re.compile(r"Failed to load resource: the server responded with a status of (401|404|409|429|503) ")

Viewport = dict[str, int]
PHONE: Viewport = {"width": 390, "height": 800}
DESK: Viewport = {"width": 1280, "height": 900}


class Visitor:
    """One person. Their pages share cookies, and everything that a console says is kept for the end of the test."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda broken: self.complaints.append(f"script broke: {broken.error}"))
        self.page = context.new_page()

    def _heard(self, message: ConsoleMessage) -> None:
        """Violations of the content security policy are among the errors."""
        if message.type in ("error", "warning") and not _ANSWERS.match(message.text):
            self.complaints.append(f"{message.page and message.page.url}: {message.type}: {message.text}")

    def forgive(self, words: str) -> None:
        """Complaints with these words were to be expected."""
        self.complaints = [said for said in self.complaints if words not in said]

    def sign_in(self, name: str, password: str, then: str = "/") -> Page:
        self.page.goto(f"/accounts/login/?next={then}")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.click("main form button")
        self.page.wait_for_url(f"**{then}")
        return self.page

    def asks(self, path: str) -> int:
        """The status of an answer that no page shows: a page that loads itself again would cut a navigation short."""
        return self.page.request.get(path).status

    def obstacles(self) -> list[str]:
        """What axe finds grave on the page as it stands. The page must allow scripts."""
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{self.page.url}: {each['id']}: {node['target']}: {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in GRAVE
            for node in each["nodes"]
        ]
