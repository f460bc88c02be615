"""Tasks: each has a policy, one that always fails stops nobody, and staff see what was given up."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from django.test import Client
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from inventory import _keys, effects, reservations
from inventory.models import Reservation
from inventory.outcomes import InventoryUnavailable
from shop import dead_tasks, late_money, orders, tasks
from shop.celery import app
from shop.local.tools import CHECKOUT
from shop.models import DeadTask, Order, Payment, Sale
from shop.task_policies import POLICIES
from tests.conftest import Shopper
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.shop import clicks

Frozen = Callable[[str], AbstractContextManager[None]]
MakeSale = Callable[..., Sale]
QUEUE = "worker-of-the-policies"
#: Broker Redis keeps here what a worker has taken and not acknowledged.
TAKEN = "unacked"

COMMAND = [
    *(sys.executable, "-m", "celery", "-A", "shop", "worker", "-n", f"{QUEUE}@local", "-c", "1", "-Q", QUEUE),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
]

app.autodiscover_tasks(["shop"], force=True)
OURS = sorted(name for name in app.tasks if not name.startswith("celery."))


@pytest.fixture
def worker(transactional_db: None, tmp_path: Path) -> Iterator[Path]:
    """Of one process, which tries two times again, a second apart at most; answers its log."""
    ready, log = tmp_path / "ready", tmp_path / "log"
    surroundings = {
        **os.environ,
        "DATABASE_URL": make_conninfo(os.environ["DATABASE_URL"], dbname=connection.settings_dict["NAME"]),
        "WORKER_READY_FILE": str(ready),
        "RETRY_TASKS": "2/1/1",
    }
    with log.open("w") as stderr:
        process = subprocess.Popen(COMMAND, cwd=CHECKOUT, env=surroundings, stderr=stderr)
    try:
        eventually(ready.exists)
        yield log
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """A look into it, without what killed workers of earlier tests have left."""
    with app.connection() as connection_to_it:
        client: Any = connection_to_it.default_channel.client
        client.delete(TAKEN, QUEUE)
        yield client
        client.delete(QUEUE)


@pytest.mark.parametrize("name", OURS)
def test_every_task_names_a_policy(name: str) -> None:
    """And is tried again as the policy says. What the beat starts is repeated, all else is not."""
    task: Any = app.tasks[name]
    by_the_beat = name in {entry["task"] for entry in app.conf.beat_schedule.values()}

    assert task.policy in POLICIES
    assert (task.policy == "repeated") == by_the_beat
    assert task.max_retries == POLICIES[task.policy].retries
    assert bool(task.autoretry_for) == bool(task.max_retries)
    assert task.acks_late is (not by_the_beat)
    assert task.soft_time_limit is None or task.soft_time_limit < app.conf.task_time_limit


def test_the_tasks_are_found() -> None:
    """All that `tasks.py` has, and what the beat starts."""
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(OURS)
    assert {"shop.invalidate", "shop.preheat", "shop.refund"} <= set(OURS)


def test_a_task_that_always_fails_stops_nobody(worker: Path, broker: redis.Redis, sale: Sale) -> None:
    """A sale that never was, arguments that do not fit: given up in one loud line each, kept once, and the task behind
    them is done."""
    for _ in range(2):
        tasks.preheat.apply_async(["no-such-sale"], queue=QUEUE)
    app.send_task("shop.preheat", [], queue=QUEUE)
    tasks.preheat.apply_async([sale.slug], queue=QUEUE)

    cache: Any = caches["default"]
    eventually(lambda: (cache.get(f"preheat:{sale.slug}") or {}).get("done") == 7)

    dead = {row.arguments: row for row in DeadTask.objects.all()}
    assert {told: row.times for told, row in dead.items()} == {'["no-such-sale"]': 2, "[]": 1}
    assert "DoesNotExist" in dead['["no-such-sale"]'].error
    assert worker.read_text().count('is given up, arguments ["no-such-sale"]') == 2
    assert eventually(lambda: broker.hlen(TAKEN) == 0 and broker.llen(QUEUE) == 0)


def test_what_is_away_is_tried_again_and_then_given_up(worker: Path, sale: Sale, frozen: Frozen) -> None:
    """Three attempts with growing pauses; somebody has to ask again."""
    with frozen("redis-stock"):
        tasks.preheat.apply_async([sale.slug], queue=QUEUE)
        row = eventually(DeadTask.objects.first)

    assert (row.name, row.times) == ("shop.preheat", 1)
    assert "Incomplete" in row.error
    assert worker.read_text().count("Retry in") <= 2


def test_an_invalidation_waits_once_and_arrives(worker: Path, broker: redis.Redis, sale: Sale, frozen: Frozen) -> None:
    """However often the same keys were sent while a tier hangs, one message waits; it ends when the tier is back."""
    cache: Any = caches["default"]
    cache.set("summer", "old", 600)
    with frozen("redis-cache"):
        for _ in range(5):
            tasks.invalidate.apply_async([["summer"]], queue=QUEUE)
        eventually(lambda: (broker.hlen(TAKEN), broker.llen(QUEUE)) == (1, 0))

    # The queue alone does not tell: a message on its way to a worker is in neither place for a moment.
    eventually(lambda: "summer" not in cache.stack.redis.read(["summer"]))
    eventually(lambda: (broker.hlen(TAKEN), broker.llen(QUEUE)) == (0, 0))
    assert not DeadTask.objects.exists()


@pytest.fixture
def late(sale: Sale, make_sale: MakeSale, make_shopper: Callable[[], Shopper]) -> list[Payment]:
    """Two payments that came too late: the first one's offer is broken in Redis, the second one's is well."""
    payments = []
    for each in (sale, make_sale()):
        order = clicks.order(make_shopper(), each)
        Reservation.objects.filter(pk=order.reservation_id).update(expires_at=order.placed_at)
        assert reservations.expire_due(orders.expire) == 1
        facts = {"amount_minor": order.total_minor, "currency": order.currency, "succeeded_at": timezone.now()}
        payments.append(
            Payment.objects.create(order=order, charge=f"ch_{order.number}", state=Payment.State.LATE, **facts)
        )
    effects.apply_pending()
    return payments


def test_one_late_payment_that_always_fails_holds_up_no_other(late: list[Payment], stock_redis: redis.Redis) -> None:
    """The others are settled; then its error is raised, and kept with the task."""
    broken, well = late
    stock_redis.delete(_keys.reservations(broken.order.offer_id))
    stock_redis.set(_keys.reservations(broken.order.offer_id), "no hash")

    with pytest.raises(redis.ResponseError) as raised:
        late_money.settle()
    dead_tasks.hear(tasks.settle_late_money, [], {}, raised.value)

    asked = Order.objects.exclude(late_reservation=None).values_list("pk", flat=True)
    assert well.order_id in set(asked)
    assert reservations.look_up(well.order.offer_id, late_money._wanted(well)) is not None
    assert DeadTask.objects.get().name == "shop.late_money"


def test_a_beat_that_meets_an_outage_is_not_given_up(db: None) -> None:
    """The next one does it: there is nothing to look at, except the outage."""
    dead_tasks.hear(tasks.drain, [], {}, InventoryUnavailable("away"))
    assert not DeadTask.objects.exists()

    dead_tasks.hear(tasks.preheat, ["summer"], {}, InventoryUnavailable("away"))
    assert DeadTask.objects.get().arguments == '["summer"]'


def test_dead_tasks_are_bounded(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with new arguments each time fills no table; what is there already is counted on."""
    monkeypatch.setattr(dead_tasks, "ROWS_MAXIMUM", 3)
    for number in range(5):
        dead_tasks.keep("shop.preheat", [f"sale\0{number}"], ValueError("a\0b" * 5_000))
    dead_tasks.keep("shop.preheat", ["sale\0000"], ValueError("again"))

    assert [row.times for row in DeadTask.objects.order_by("pk")] == [2, 1, 1]


def test_staff_see_them(db: None) -> None:
    """In the back office, until somebody says that they have looked; a new failure shows it again."""
    dead_tasks.keep("shop.preheat", ["summer"], ValueError("no"))
    staff = Client()
    staff.force_login(User.objects.create_superuser("boss"))
    url = "/admin/shop/deadtask/"
    assert "shop.preheat" in staff.get(url).content.decode()

    row = DeadTask.objects.get()
    staff.post(url, {"action": "look", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert row.looked_at

    dead_tasks.keep("shop.preheat", ["summer"], ValueError("no"))
    row.refresh_from_db()
    assert (row.times, row.looked_at) == (2, None)
