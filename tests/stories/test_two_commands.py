"""The first of the two commands: the whole sale on real servers, walked through over HTTP, and gone without a trace."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.demo_people import SHOPPER_PASSWORD, STAFF_NAME, STAFF_PASSWORD
from shop.local.state import State
from tests.crowd import eventually
from tests.stories.browser import Browser, Page
from tests.stories.running_shop import ROOT, Command, RunningShop, runs


@pytest.fixture
def shop() -> Iterator[RunningShop]:
    folder = Path(tempfile.mkdtemp(prefix="seckill-story-"))
    folder.chmod(0o755)  # the account of the servers passes through
    running = RunningShop(folder / "state")
    yield running
    if running.process.poll() is None:
        running.stop()
    State(running.state).remove()
    shutil.rmtree(folder)


def test_a_sale_from_sign_in_to_paid(shop: RunningShop) -> None:
    """Buys and pays once as a script and once by plain forms; the data keep every promise; nothing is left."""
    shop.manage("demo", "--sale", "story", "--quantity", "2")

    buys_and_pays_as_a_script(shop.signed_in("shopper1"), "story")
    buys_and_pays_by_forms(shop.browser(), "story", "shopper2")
    late = shop.signed_in("shopper3")
    sold_out = eventually(lambda: refused(late.send("/sales/story/ticket")))
    staff_see_the_sale(shop.browser())
    verified = shop.manage("verify", "story", "--json")

    assert (sold_out.status, sold_out.json()["outcome"]) == (409, "SOLD_OUT")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["kept"] is True
    assert shop.stop(signal.SIGTERM) == 0
    assert shop.output.endswith("stopped\n")
    assert shop.left_over() == []


def test_a_sale_without_an_edge() -> None:
    """EDGE=off: one process serves everything on the port, and is started again when it dies."""
    folder = Path(tempfile.mkdtemp(prefix="seckill-story-"))
    folder.chmod(0o755)
    running = RunningShop(folder / "state", Command(environment={"EDGE": "off"}))
    try:
        running.manage("demo", "--sale", "story", "--quantity", "2")
        assert {entry["name"] for entry in running.book()} & {"web", "express", "pages", "edge"} == {"web"}

        buys_and_pays_as_a_script(running.signed_in("shopper1"), "story")
        [web] = [entry["pid"] for entry in running.book() if entry["name"] == "web"]
        os.kill(web, signal.SIGKILL)
        browser = eventually(lambda: answers(running))
        buys_and_pays_as_a_script(browser, "story")
        running.note_pids()
        assert running.stop() == 0
        assert running.left_over() == []
    finally:
        if running.process.poll() is None:
            running.stop()
        State(running.state).remove()
        shutil.rmtree(folder)


def answers(shop: RunningShop) -> Browser | None:
    """Signed in again, once somebody listens."""
    try:
        return shop.signed_in("shopper2")
    except OSError:
        return None


def buys_and_pays_as_a_script(browser: Browser, slug: str) -> None:
    state = browser.ask(f"/sales/{slug}/state")
    assert state["phase"] == "open"
    ticket = browser.send(f"/sales/{slug}/ticket").json()["ticket"]
    click = browser.send(f"/sales/{slug}/buy", offer=state["offers"][0]["id"], units=1, ticket=ticket)
    assert (click.status, click.json()["outcome"]) == (202, "RESERVED")

    status_url = click.json()["status_url"]
    eventually(lambda: browser.ask(status_url)["state"] == "placed")
    order_url = browser.ask(status_url)["order_url"]
    assert browser.send(f"/sales/{slug}/buy", units=1, ticket=ticket).json()["outcome"] == "REPEATED"

    pay_page = browser.get(browser.send(f"{order_url}pay").json()["pay_url"])
    pays(browser, pay_page)
    assert browser.ask(order_url)["order"]["state"] == "paid"
    eventually(lambda: browser.ask(status_url)["state"] == "paid")


def buys_and_pays_by_forms(browser: Browser, slug: str, name: str) -> None:
    form = browser.get(f"/sales/{slug}/").form("/ticket")
    sign_in_page = browser.submit(form)
    sale_page = browser.submit(sign_in_page.form("/accounts/login/"), username=name, password=SHOPPER_PASSWORD)
    assert sale_page.url.endswith(f"/sales/{slug}/")

    ticket_page = browser.submit(sale_page.form("/ticket"))
    waiting_page = browser.submit(ticket_page.form("/buy"))
    order_page = eventually(lambda: on_order(browser.get(waiting_page.url)))
    pay_page = browser.submit(order_page.form("/pay"))
    paid_page = pays(browser, pay_page)

    assert "/orders/" in paid_page.url
    assert browser.ask(paid_page.url)["order"]["state"] == "paid"
    assert paid_page.url.split("/")[-2] in browser.get("/orders/").body


def refused(page: Page) -> Page | None:
    """What the page shows may be half a second old, and a ticket is given by that; Redis decides when it is used."""
    return page if page.status == 409 else None


def on_order(page: Page) -> Page | None:
    return page if "/orders/" in page.url else None


def pays(browser: Browser, pay_page: Page) -> Page:
    return browser.submit(pay_page.form(""), action="pay")


def staff_see_the_sale(browser: Browser) -> None:
    browser.submit(browser.get("/admin/login/").form("/admin/login/"), username=STAFF_NAME, password=STAFF_PASSWORD)
    assert "Story" in browser.get("/admin/shop/sale/").body


def test_the_supervisor_is_killed_in_the_middle(shop: RunningShop) -> None:
    """kill -9 between placed and paid: the next start takes over what was left, the order is paid, nothing is left."""
    shop.manage("demo", "--sale", "story", "--quantity", "1")
    browser = shop.signed_in()
    ticket = browser.send("/sales/story/ticket").json()["ticket"]
    status_url = browser.send("/sales/story/buy", ticket=ticket).json()["status_url"]
    eventually(lambda: browser.ask(status_url)["state"] == "placed")

    shop.kill()
    shop.start()

    browser = shop.signed_in()
    order_url = browser.ask(status_url)["order_url"]
    pays(browser, browser.get(browser.send(f"{order_url}pay").json()["pay_url"]))
    assert browser.ask(order_url)["order"]["state"] == "paid"
    verified = shop.manage("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert shop.stop() == 0
    assert shop.left_over() == []


@pytest.mark.skipif(os.getuid() != 0, reason="everybody but root runs the other stories as an ordinary user already")
def test_an_ordinary_user_runs_it_in_an_empty_clone(clone_of_nobody: Path) -> None:
    """`make up` as nobody, in a clone without a venv: sets itself up, sells, and leaves nothing."""
    nobody = pwd.getpwnam("nobody")
    python = str(clone_of_nobody / ".venv/bin/python")
    command = Command(
        ["make", "-s", "up"], [python, "manage.py"], clone_of_nobody, SYSTEM_ONLY, nobody.pw_uid, nobody.pw_gid
    )
    running = RunningShop(clone_of_nobody / "state", command)
    try:
        running.manage("demo", "--sale", "story", "--quantity", "1")
        buys_and_pays_as_a_script(running.signed_in(), "story")
        assert running.manage("verify").returncode == 0
        assert {Path(f"/proc/{pid}").owner() for pid in running.pids if runs(pid)} == {"nobody"}
    finally:
        running.stop()
    eventually(lambda: not running.left_over())  # TERM reached make, which does not wait for what it started


#: No version manager and no home of root's: what a new account finds.
SYSTEM_ONLY = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture
def clone_of_nobody() -> Iterator[Path]:
    """The files of this checkout, as they are now, in a folder that belongs to nobody and that nobody can reach."""
    nobody = pwd.getpwnam("nobody")
    probe = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run(["python3", "-c", probe], env=SYSTEM_ONLY, capture_output=True, check=False).returncode:
        pytest.skip("the Python of this system is older than 3.11: only root's own can run the shop")

    folder = Path(tempfile.mkdtemp(prefix="seckill-clone-", dir="/var/tmp"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    yield folder
    shutil.rmtree(folder)
