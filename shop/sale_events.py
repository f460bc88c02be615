"""The record of who did what to a sale, and of what the service did by itself: rows that nobody changes any more.

    sale_events.by_staff(request.user, "pause", sale.slug)      # in the transaction of the act, or after it
    sale_events.scribe.note("level", detail="SHED after ...")   # of the service: a side thread writes it down

A trigger of PostgreSQL refuses UPDATE and DELETE, whoever asks; only the owner of the table can empty it as a whole, or
drop the trigger. Each line is in the log as well (`audit`), for whoever has lost PostgreSQL.
"""

import logging
import os
import socket
import threading
import uuid
from collections import deque

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from resilience import breaker
from resilience.breaker import Breaker
from shop import audit
from shop.away import DATABASE_AWAY
from shop.models import SaleEvent

#: Lines that wait for PostgreSQL in a process; of more, the oldest are in the log alone.
WAITING_MAXIMUM = 1_000
#: Seconds between two looks of the side thread: staff read of a change at their next glance.
WRITE_EVERY_SECONDS = 0.5
#: Characters of a detail that are kept: an exception's text may be long.
DETAIL_MAXIMUM = 500

logger = logging.getLogger(__name__)


# --- What people do --------------------------------------------------------------------------------------------------


def by_staff(
    who: object, act: str, sale: str = "", what: object = "", detail: str = "", key: uuid.UUID | None = None
) -> bool:
    """Write it down, and into the log once it is committed. Two lines of one `key` are one line: False for the second,
    which is not written."""
    if not _write(act, sale, what, detail, str(who), key):
        return False
    said = f"{what}: {detail}" if what and detail else str(what) or sale
    transaction.on_commit(lambda: audit.by_staff(who, act, said), robust=True)
    return True


def by_command(act: str, sale: str, detail: str = "") -> None:
    """Somebody at a terminal; the machine knows them by their number alone."""
    _write(act, sale, "", detail, f"user {os.getuid()} of {socket.gethostname()}")
    audit.by_command(act, sale, detail)


def of_override(who: str, what_of_it: str, override: object, why: str) -> None:
    """Somebody put an override in force, or ended it."""
    _write("override", "", override, f"{what_of_it}: {why}", who)
    audit.override(who, what_of_it, override, why)


def _write(act: str, sale: str, what: object, detail: str, by: str, key: uuid.UUID | None = None) -> bool:
    line = SaleEvent(act=act, sale=sale, what=str(what)[:100], detail=detail[:DETAIL_MAXIMUM], by=by[:150], key=key)
    if key is None:
        line.save(force_insert=True)
        return True
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_saleevent (act, sale, what, detail, by, key) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (key) DO NOTHING",
            [line.act, line.sale, line.what, line.detail, line.by, key],
        )
        return bool(cursor.rowcount)


# --- What the service does by itself ---------------------------------------------------------------------------------


class Scribe:
    """Of one process: takes lines from whatever thread causes them, which may be somebody's request, and writes them
    down on its own. While PostgreSQL is away they wait."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """As new, also in a forked child, which has none of the threads."""
        self._waiting: deque[SaleEvent] = deque(maxlen=WAITING_MAXIMUM)
        self._told: dict[str, str] = {}
        self._ended: threading.Event | None = None

    def start(self) -> None:
        """Hear of every breaker, and write. Again, it does nothing."""
        if self._ended is None:
            self._ended = threading.Event()
            breaker.listen(self.hear)
            threading.Thread(target=self._write_again_and_again, args=[self._ended], name="scribe", daemon=True).start()

    def stop(self) -> None:
        """Its thread ends with the lines that it is writing."""
        breaker.stop_listening(self.hear)
        if self._ended is not None:
            self._ended.set()

    def note(self, act: str, what: str = "", detail: str = "") -> None:
        """Never waits, never raises for PostgreSQL's sake."""
        line = f"{detail} (process {os.getpid()} of {socket.gethostname()})"
        self._waiting.append(SaleEvent(act=act, what=what[:100], detail=line[:DETAIL_MAXIMUM], at=timezone.now()))

    def hear(self, changed: Breaker, state: str) -> None:
        """A breaker opened, or closed, or was forced. That it tries between the two is no news."""
        if state == breaker.HALF_OPEN or self._told.get(changed.name, breaker.CLOSED) == state:
            return
        self._told[changed.name] = state
        self.note("breaker", changed.name, state)

    def write_down(self) -> int:
        """What waits; answers how many lines were written. They wait on while PostgreSQL is away."""
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not lines:
            return 0
        try:
            SaleEvent.objects.bulk_create(lines)
        except DATABASE_AWAY:
            self._waiting.extendleft(reversed(lines))
            return 0
        except DatabaseError:
            logger.exception("%d events were not written down, the log has them", len(lines))
            return 0
        return len(lines)

    def _write_again_and_again(self, ended: threading.Event) -> None:
        while not ended.wait(WRITE_EVERY_SECONDS):
            try:
                self.write_down()
            except Exception:
                logger.exception("events wait to be written down")
            finally:
                connection.close()


scribe = Scribe()
os.register_at_fork(after_in_child=scribe.start_over)
