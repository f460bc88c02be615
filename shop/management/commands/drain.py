"""`manage.py drain [--forever]`: record without the broker, when Celery is away."""

import logging
import os
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from inventory import effects, outbox
from shop import orders
from shop.management.refusals import refuse

#: Seconds between two looks at the streams, and after a fault.
LOOK_SECONDS = 0.2
FAULT_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Write waiting events down in PostgreSQL and tell Redis of ended holds; until stopped with --forever."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--forever", action="store_true", help="go on until stopped; a fault is waited out")

    def handle(self, *args: Any, forever: bool, **options: Any) -> None:
        os.environ.setdefault("WORKER_SLOT", "drain-command")
        if not forever:
            try:
                self.stdout.write(f"{_once()} events recorded")
            except outbox.AWAY as away:
                raise refuse(f"a server is away, nothing was lost: {away}") from away
            return

        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        while not stopped.is_set():
            stopped.wait(_patiently())


def _once() -> int:
    recorded = outbox.drain_all(orders.place)
    effects.apply_pending()
    return recorded


def _patiently() -> float:
    """Work off what waits; answers how long to rest before the next look."""
    try:
        _once()
    except outbox.AWAY as away:
        logger.warning("draining waits: %s", away)
        connection.close()
        return FAULT_SECONDS
    return LOOK_SECONDS
