"""The Celery app, and the beat that rings when nobody else does."""

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging, task_prerun, worker_process_shutdown, worker_ready
from django.db import close_old_connections

from resilience import log_lines, quiet_logging
from shop import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

broker.install()
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["shop"])

#: Tasks that a worker process runs on one connection to PostgreSQL. Celery's default is a new one for each, which costs
#: more than most of our tasks; a new one now and then gives back what a server process has gathered in its memory.
TASKS_A_CONNECTION = 1_000
app.conf["CELERY_DB_REUSE_MAX"] = TASKS_A_CONNECTION  # where Celery's Django fixup looks for it

#: Seconds between beats. A ring that waited longer than its beat is worth nothing: the next one does the same.
EVERY_SECOND = 1.0
EVERY_FEW_SECONDS = 5.0

app.conf.beat_schedule = {
    "drain": {"task": "shop.drain", "schedule": EVERY_SECOND, "options": {"expires": 2, "queue": "drain"}},
    "settle": {
        "task": "shop.settle",
        "schedule": EVERY_SECOND,
        "options": {"expires": 2, "queue": "effects"},
    },
    "expire": {"task": "shop.expire", "schedule": EVERY_SECOND, "options": {"expires": 2, "queue": "sweep"}},
    "late_money": {"task": "shop.late_money", "schedule": EVERY_SECOND, "options": {"expires": 2, "queue": "default"}},
    "pull": {"task": "shop.pull", "schedule": EVERY_FEW_SECONDS, "options": {"expires": 10, "queue": "default"}},
    "watch": {"task": "shop.watch", "schedule": EVERY_SECOND, "options": {"expires": 2, "queue": "sweep"}},
    "tidy": {"task": "shop.tidy", "schedule": EVERY_FEW_SECONDS, "options": {"expires": 10, "queue": "default"}},
    "look": {"task": "shop.look", "schedule": EVERY_FEW_SECONDS, "options": {"expires": 5, "queue": "default"}},
    "preheat": {
        "task": "shop.preheat_due",
        "schedule": EVERY_FEW_SECONDS,
        "options": {"expires": 5, "queue": "default"},
    },
    "refund": {
        "task": "shop.refund",
        "schedule": EVERY_FEW_SECONDS,
        "options": {"expires": 10, "queue": "default"},
    },
}


@setup_logging.connect
def leave_logging_alone(**_: Any) -> None:
    """Somebody listens, so Celery puts no handlers and no levels of its own over those of the settings."""


@worker_process_shutdown.connect
def write_the_last_lines(**_: Any) -> None:
    """A process of the pool ends without Python's ceremony, which would do this."""
    quiet_logging.finish()


@task_prerun.connect
def name_the_task(task_id: str, **_: Any) -> None:
    """Each line of a task says which one it was; the next task says its own."""
    log_lines.relabel(task=task_id)


@task_prerun.connect
def drop_dead_connections(**_: Any) -> None:
    """As Django does before a request: what PostgreSQL's restart, or an error, has broken is made anew by the task."""
    close_old_connections()


@worker_ready.connect
def say_ready(**_: Any) -> None:
    """Touch the file that whoever started this worker waits for."""
    if path := os.environ.get("WORKER_READY_FILE"):
        Path(path).touch()
