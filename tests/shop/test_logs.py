"""The shop's log as an operator reads it: JSON that says on whose behalf, and audit lines that are always there."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from shop.celery import app
from shop.local.tools import CHECKOUT
from shop.models import Order, Sale
from tests.conftest import Shopper
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.shop import clicks

QUEUE = "worker-of-the-logs"


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What the audit log says in this test."""
    logger = logging.getLogger("audit")
    logger.addHandler(caplog.handler)
    yield lambda: [each.getMessage() for each in caplog.records if each.name.startswith("audit.")]
    logger.removeHandler(caplog.handler)


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def act(staff: Client, url: str, action: str, pk: int) -> None:
    staff.post(url, {"action": action, "_selected_action": [pk], "confirmed": "yes"})


def test_what_staff_does_to_sales_and_orders(
    audit: Callable[[], list[str]], staff: Client, sale: Sale, shopper: Shopper
) -> None:
    """Who, what and to which: a line for each that was done, none for what was refused."""
    order = clicks.order(shopper, sale)

    act(staff, "/admin/shop/sale/", "pause", sale.pk)
    act(staff, "/admin/shop/order/", "cancel", order.pk)
    act(staff, "/admin/shop/order/", "cancel", order.pk)

    assert Order.objects.get(pk=order.pk).state == Order.State.CANCELLED
    assert audit() == [f"boss did pause: {sale.slug}", f"boss did cancel: {order.number}"]


def test_what_is_typed_at_a_terminal(audit: Callable[[], list[str]], sale: Sale) -> None:
    """The commands that move units or stop a sale; looking does not count."""
    call_command("pause", sale.slug)
    call_command("reconcile", sale.slug)
    call_command("reconcile", sale.slug, "--apply")
    call_command("rebuild", sale.slug)

    verbs = [line.split(" did ")[1].split(":")[0] for line in audit() if " did " in line]
    assert verbs == ["pause", "reconcile", "rebuild"]


def read(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines()]


STORM = """
import django, logging
django.setup()
from django.conf import settings
from django.test import Client
from shop import audit, buyers
from resilience.log_lines import labelled
Client(headers={"x-request-id": "request-1234"}, raise_request_exception=False).get("/sales/summer/")
for _ in range(3_000):
    logging.getLogger("shop.somewhere").error("away: %s", settings.PROVIDER_SECRET)
for number in range(300):
    audit.by_staff("boss", "cancel", number)
with labelled(buyer=17):
    for _ in range(40):
        logging.getLogger("shop.somewhere").debug("looks")
"""


def test_lines_for_machines() -> None:
    """Production's log: labels on what a request causes, masked keys, counts that add up, all of the audit."""
    settings = {"LOG_FORMAT": "json", "LOG_IN_DETAIL": "buyer:17", "DATABASE_URL": "host=/nowhere"}
    ended = subprocess.run(
        [sys.executable, "-c", STORM], cwd=CHECKOUT, env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    lines = read(ended.stderr)

    storm = [line for line in lines if line["logger"] == "shop.somewhere" and line["level"] == "ERROR"]
    assert sum(line.get("left_out", 0) + ("lines like" not in line["message"]) for line in storm) == 3_000
    assert len(storm) <= 20
    assert {line["message"] for line in storm[:10]} == {"away: ***"}

    assert sum(line["logger"] == "audit.staff" for line in lines) == 300
    assert [line["buyer"] for line in lines if line["level"] == "DEBUG"] == ["17"] * 40
    assert {(line["request"], line["sale"]) for line in lines if "request" in line} == {("request-1234", "summer")}


def test_a_workers_log(tmp_path: Path) -> None:
    """Celery leaves it as it is: what its own loggers say comes in our lines, and is quiet like the rest."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    command = [
        *(sys.executable, "-m", "celery", "-A", "shop", "worker", "-n", f"{QUEUE}@local", "-c", "1", "-Q", QUEUE),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    surroundings = {**os.environ, "WORKER_READY_FILE": str(ready), "LOG_FORMAT": "json", "PYTHONWARNINGS": "ignore"}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=surroundings, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        eventually(ready.exists)
        for _ in range(100):
            app.send_task("shop.no_such_task", queue=QUEUE)
        eventually(lambda: "no_such_task" in log.read_text())
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)

    told = [line for line in read(log.read_text()) if "unregistered task" in line["message"]]
    assert {line["logger"] for line in told} == {"celery.worker.consumer.consumer"}
    assert 0 < len(told) <= 20


#: What a client may put where an id or a name is expected: a forged line, a colour, a bell, the end of a line for some.
EVIL = "x\r\nforged\x1b[31m\x07\u2028\x85\x00"

VISITS = """
import sys, django
django.setup()
from urllib.parse import quote
from django.conf import settings
from django.test import Client
from resilience.log_lines import labelled
import logging
evil = sys.argv[1].encode().decode("unicode_escape")
settings.RATE_LIMIT_EXEMPT = []
client = Client(headers={"x-request-id": evil}, raise_request_exception=False, REMOTE_ADDR=evil)
client.get(f"/sales/{quote(evil)}/")
client.get(f"/{quote(evil)}/")
client.post("/accounts/login/", {"username": evil, "password": evil})
client.post("/payments/callback", evil, content_type="application/json", headers={"x-signature": evil})
with labelled(buyer=evil, sale=evil):
    logging.getLogger(evil).error("names %s", evil)
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_name_of_a_client_reaches_the_log_raw(log_format: str) -> None:
    """Request id, address, slug, username, signature and labels: every line of the log is one of ours, and shows what
    would otherwise be done by a terminal."""
    escaped = EVIL.encode("unicode_escape").decode()
    settings = {"LOG_FORMAT": log_format, "LOG_LEVEL": "INFO", "DATABASE_URL": "host=/nowhere"}
    ended = subprocess.run(
        [sys.executable, "-c", VISITS, escaped], cwd=CHECKOUT, env={**os.environ, **settings}, capture_output=True
    )
    told = ended.stderr.decode()

    assert ended.returncode == 0, told
    assert "forged" in told
    lines = told.split("\n")
    assert not [line for line in lines if line.lstrip().startswith("forged")]
    assert all(each.isprintable() for each in lines)
    if log_format == "json":
        assert any(json.loads(line)["message"].startswith("names x\r\nforged") for line in lines if line)
