"""A worker as Celery runs it: one connection to PostgreSQL for many tasks, checked before each."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection
from psycopg.conninfo import make_conninfo

from inventory import reservations
from inventory.outcomes import Wish
from shop import tasks
from shop.local.tools import CHECKOUT
from shop.models import Offer, Order
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.people import a_crowd, reservation_id

#: What PostgreSQL calls the connections of the worker.
WORKER = "worker-of-a-test"
#: Tasks that share a connection in this test: a few, of the very many that may.
TASKS = 6

COMMAND = [
    *(sys.executable, "-m", "celery", "-A", "shop", "worker", "-n", f"{WORKER}@local", "-c", "1", "-Q", WORKER),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
]


@pytest.fixture
def worker(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """Of one process, with the database of the tests and a queue of its own."""
    ready = tmp_path / "ready"
    surroundings = {
        **os.environ,
        "DATABASE_URL": make_conninfo(os.environ["DATABASE_URL"], dbname=connection.settings_dict["NAME"]),
        "PGAPPNAME": WORKER,
        "WORKER_READY_FILE": str(ready),
    }
    process = subprocess.Popen(COMMAND, cwd=CHECKOUT, env=surroundings)
    try:
        eventually(ready.exists)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture
def record_one(offer: Offer) -> Callable[[], list[int]]:
    """A buyer reserves, and a drain of the worker's places the order; answers the worker's server processes."""

    def record() -> list[int]:
        [buyer] = a_crowd(1)
        reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
        tasks.drain.apply_async(queue=WORKER)
        eventually(Order.objects.filter(buyer=buyer).exists)
        return backends()

    return record


def backends() -> list[int]:
    return [pid for (pid,) in asked("SELECT pid FROM pg_stat_activity WHERE application_name = %s", WORKER)]


def asked(sql: str, *values: object) -> list[tuple[int]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def test_many_tasks_share_a_connection(worker: None, record_one: Callable[[], list[int]]) -> None:
    """PostgreSQL serves all of them by one process, which is there between two of them as well."""
    [first] = record_one()

    assert [record_one() for _ in range(TASKS)] == [[first]] * TASKS


def test_the_first_task_after_a_restart_of_postgresql_works(worker: None, record_one: Callable[[], list[int]]) -> None:
    """Its connection is dead, which it finds out before it begins: the task is done, and not only the one after it."""
    [before] = record_one()
    asked("SELECT pg_terminate_backend(%s)", before)
    eventually(lambda: backends() == [])

    [after] = record_one()

    assert after != before
    assert record_one() == [after]
