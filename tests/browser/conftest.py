"""A real Chromium against a real `make up`: one of each for all tests here, and new people for every test.

    def test_something(shop, newcomer):
        shop.manage("demo", "--sale", "story", "--quantity", "2")
        visitor = newcomer(viewport=PHONE, locale="zh-CN")
        visitor.page.goto("/sales/story/")

At the end of a test, no console of its visitors may have said anything.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from shop.local.state import State
from tests.browser import chromium
from tests.stories.running_shop import RunningShop

if find_spec("playwright"):
    from playwright.sync_api import Browser, expect, sync_playwright

    from tests.browser.visitor import DESK, Visitor
else:
    collect_ignore_glob = ["test_*.py"]  # `make browser-test` brings it

#: Milliseconds a condition may take on a slow and busy machine. Nothing waits that long unless it is broken.
PATIENCE_MS = 20_000


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    program = chromium.find()
    if program is None:
        pytest.skip(chromium.MISSING)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        yield chromium.launch(playwright, program)


@pytest.fixture(scope="session")
def shop(browser: "Browser") -> Iterator[RunningShop]:
    """Not started where there is no browser to look at it."""
    folder = Path(tempfile.mkdtemp(prefix="seckill-browser-"))
    folder.chmod(0o755)  # the account of the servers passes through
    running = RunningShop(folder / "state")
    yield running
    running.stop()
    State(running.state).remove()
    shutil.rmtree(folder)


@pytest.fixture
def newcomer(browser: "Browser", shop: RunningShop) -> "Iterator[Callable[..., Visitor]]":
    """Makes people with new browsers, at a desk unless told otherwise, with playwright's options for a context."""
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        context = browser.new_context(base_url=shop.url, **{"viewport": DESK, "locale": "en-GB"} | options)
        context.set_default_timeout(PATIENCE_MS)
        visitors.append(Visitor(context))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
    assert [said for visitor in visitors for said in visitor.complaints] == []


@pytest.fixture
def stopped(shop: RunningShop) -> Callable[[str], AbstractContextManager[None]]:
    """`with stopped("worker"):` that process of the shop does nothing, and nobody takes it for dead."""

    @contextmanager
    def stop(name: str) -> Iterator[None]:
        pid = next(entry["pid"] for entry in shop.book() if entry["name"] == name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    return stop
