"""Each process of a running shop is killed once, in mid-sale: the sale comes back by itself, and nothing is lost."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shop.demo_people import SHOPPER_PASSWORD
from shop.local.state import State
from tests.crowd import eventually
from tests.stories.browser import Browser
from tests.stories.running_shop import RunningShop

#: Seconds until what died sells again, on a machine that is busy with other things.
COMES_BACK_SECONDS = 60
#: Who dies, in this order; each must be back before the next.
VICTIMS = [
    *("worker", "beat", "express", "pages", "edge"),
    *("redis-broker", "redis-cache", "memcached", "postgresql", "redis-stock"),
]


@pytest.fixture(scope="module")
def shop() -> Iterator[RunningShop]:
    folder = Path(tempfile.mkdtemp(prefix="seckill-story-"))
    folder.chmod(0o755)  # the account of the servers passes through
    running = RunningShop(folder / "state")
    running.manage("demo", "--sale", "story", "--quantity", "100", "--limit", "50")
    yield running
    running.note_pids()
    assert running.stop() == 0
    assert running.left_over() == []
    State(running.state).remove()
    shutil.rmtree(folder)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_death_in_mid_sale_loses_nothing(shop: RunningShop, victim: str) -> None:
    """What was reserved before is placed, buying goes on afterwards, and the data keep every promise."""
    browser = shop.signed_in()
    before = reserves(browser)
    pid = pid_of(shop, victim)

    os.kill(pid, signal.SIGKILL)

    eventually(lambda: pid_of(shop, victim) not in (0, pid))
    after = eventually(lambda: reserves(browser), COMES_BACK_SECONDS)
    newcomer = eventually(lambda: let_in(shop), COMES_BACK_SECONDS)
    last = eventually(lambda: reserves(newcomer), COMES_BACK_SECONDS)
    for who, status_url in ((browser, before), (browser, after), (newcomer, last)):
        eventually(lambda who=who, url=status_url: answer(who, url).get("state") == "placed")
    verified = shop.manage("verify", "story")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_sells_goes_first(shop: RunningShop) -> None:
    """When all processors are busy: pages and what is written down behind them give way, also after a new start."""
    polite = {"pages": 10, **dict.fromkeys(("worker", "beat", "provider", "roll"), 5)}
    eventually(lambda: give_way(shop) == polite)  # once they are ready


def give_way(shop: RunningShop) -> dict[str, int]:
    """Whose niceness is not ours, and by how much."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(ProcessLookupError):
        niceness = {entry["name"]: os.getpriority(os.PRIO_PROCESS, entry["pid"]) - ours for entry in shop.book()}
        return {name: nice for name, nice in niceness.items() if nice}
    return {}  # one of them died in this moment


def let_in(shop: RunningShop) -> Browser | None:
    """Somebody who comes now, signed in; None while the pages are not back."""
    browser = shop.browser()
    try:
        page = browser.get("/accounts/login/?next=/")
        signed_in = page.status == 200 and browser.sign_in("shopper2", SHOPPER_PASSWORD).status == 200
    except OSError:  # nobody listens
        return None
    return browser if signed_in else None


def reserves(browser: Browser) -> str | None:
    """Click as an impatient person does: again and again with the same ticket. Answers the status address."""
    try:
        ticket = browser.send("/sales/story/ticket").json().get("ticket")
        click = browser.send("/sales/story/buy", ticket=ticket).json() if ticket else {}
    except (OSError, ValueError):  # nobody listens, or something else than an answer came
        return None
    return click.get("status_url") if click.get("outcome") in ("RESERVED", "REPEATED") else None


def answer(browser: Browser, url: str | None) -> dict[str, str]:
    assert url
    try:
        return dict(browser.ask(url))
    except (OSError, ValueError):
        return {}


def pid_of(shop: RunningShop, name: str) -> int:
    """The process of that name that lives now, from the supervisor's book; 0 while there is none."""
    return next((entry["pid"] for entry in shop.book() if entry["name"] == name), 0)
