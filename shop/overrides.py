"""What staff say over the head of the automatic: a level, a breaker, whose log lines are told in full.

A row of `Override` is the truth. After its commit all that is in force hangs as one value in cache Redis, where every
process looks four times a second. While nothing hangs there, or Redis is away, each process reads the rows itself, on
the side and every five seconds; while PostgreSQL is away too, what it heard last is in force until its end.
"""

import logging
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Least, Now
from django.utils import timezone
from django.utils.translation import gettext as _

from resilience import breaker
from resilience.clock import now_ms
from resilience.degradation import Level
from resilience.notice import Notice, NoticeAway
from shop import sale_events
from shop.away import DATABASE_AWAY
from shop.models import Override

#: Seconds that a notice hangs: as long is somebody obeyed who ended while the one who ended it could not reach Redis.
TOLD_SECONDS = 30
#: Seconds between two looks at the rows, while there is no notice.
REREAD_SECONDS = 5.0
#: Milliseconds that PostgreSQL has to answer; nobody waits for it but the thread that asks.
ROWS_TIMEOUT_MS = 1_000
#: Whoever writes an override, or tells of them, has this lock of PostgreSQL meanwhile: an arbitrary number.
_LOCK = 7_041_963

#: What a breaker may be told, and what whoever is logged in full is.
OPEN, BYPASS, DETAIL = "open", "bypass", "detail"
#: What the admin needs to end an override: with its breaker open, web processes would refuse the one who wants to, and
#: everybody's orders and payments, until its end. It can be bypassed.
NEEDED_TO_END_IT = "PostgreSQL"
#: Of which the lines can be told in full, as log lines are labelled.
_LABEL = re.compile(r"\A(buyer|sale|request|task):[A-Za-z0-9_-]{1,64}\Z")

logger = logging.getLogger(__name__)

notice = Notice("redis", "overrides")


# --- Said by staff ---------------------------------------------------------------------------------------------------


def add(kind: str, name: str, value: str, *, reason: str, author: str, ends_at: datetime) -> Override:
    """Put it in force, instead of what was said of the same before. Raises ValidationError, by the names of fields."""
    check(kind, name, value, reason=reason, ends_at=ends_at)
    with transaction.atomic():
        _lock()
        for other in _open().filter(kind=kind, name=name):
            _close(other, author)
        said = Override.objects.create(
            kind=kind, name=name, value=value, reason=reason.strip(), author=author, ends_at=ends_at
        )
        sale_events.of_override(author, "began", said, f"{said.reason}, until {ends_at:%Y-%m-%d %H:%M:%S %Z}")
        transaction.on_commit(tell, robust=True)
    return said


def end(pk: int, author: str) -> bool:
    """End it now. False when it had ended: somebody was first, or its time was over."""
    with transaction.atomic():
        _lock()
        found = in_force().filter(pk=pk).first()
        if found is not None:
            _close(found, author)
            transaction.on_commit(tell, robust=True)
    return found is not None


def check(kind: str, name: str, value: str, *, reason: str, ends_at: datetime | None) -> None:
    """Raises ValidationError with what is wrong, by the name of the field."""
    wrong: dict[str, str] = {}
    if not reason.strip() or not reason.isprintable():
        wrong["reason"] = _("Say why, in one line: whoever is called at night reads it.")
    now = timezone.now()
    if ends_at is None or not now < ends_at <= now + Override.LONGEST:
        wrong["ends_at"] = _("It has to end, after now and within 24 hours.")
    wrong |= _wrong_with(kind, name, value)
    if wrong:
        raise ValidationError(wrong)


def _wrong_with(kind: str, name: str, value: str) -> dict[str, str]:
    match kind:
        case Override.Kind.LEVEL:
            allowed, named, may = [level.name for level in Level], not name, _("A level has no name.")
        case Override.Kind.BREAKER:
            names = sorted({each.name for each in breaker.all_of_this_process()})
            may = _("There is no such breaker. There are: %s.") % ", ".join(names)
            allowed, named = [OPEN, BYPASS], name in names
            if (name, value) == (NEEDED_TO_END_IT, OPEN):
                return {"value": _("Nobody could end that: whoever ends an override needs PostgreSQL. Force STATIC.")}
        case Override.Kind.LOG:
            may = _("Say whose lines: buyer:17, sale:summer, request:4f1c or task:9b2d.")
            allowed, named = [DETAIL], bool(_LABEL.match(name))
        case _:
            return {"kind": _("It is a level, a breaker or a log.")}
    wrong = {} if named else {"name": may}
    if value not in allowed:
        wrong["value"] = _("One of %s.") % ", ".join(allowed)
    return wrong


def in_force() -> QuerySet[Override]:
    return _open().filter(ends_at__gt=Now())


def _open() -> QuerySet[Override]:
    return Override.objects.filter(ended_at=None)


def _close(said: Override, author: str) -> None:
    Override.objects.filter(pk=said.pk).update(ended_at=Least("ends_at", Now()))
    sale_events.of_override(author, "ended", said, said.reason)


def _lock() -> None:
    """Until the end of the transaction. What is read under it, and told, nobody has outdated meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def tell() -> None:
    """Hang up what is in force. It is read after whatever this follows was committed, and by one at a time: of two who
    press at the same moment the later one tells of both."""
    try:
        with transaction.atomic():
            _lock()
            notice.post([astuple(each) for each in read()], TOLD_SECONDS)
    except (NoticeAway, *DATABASE_AWAY) as away:
        logger.warning("an override is known to PostgreSQL, and processes hear of it later: %s", away)


# --- Heard by processes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """An override as it travels."""

    kind: str
    name: str
    value: str
    reason: str
    ends_at_ms: int


def read() -> list[Said]:
    """From PostgreSQL."""
    return [
        Said(each.kind, each.name, each.value, each.reason, int(each.ends_at.timestamp() * 1000))
        for each in in_force().order_by("pk")
    ]


class Hearing:
    """What this process knows. `look` asks Redis, for no longer than its timeouts, and never waits for PostgreSQL."""

    def __init__(self) -> None:
        self._said: tuple[Said, ...] = ()
        self._heard_at = self._reread_at = float("-inf")
        self._reading = threading.Lock()

    def look(self) -> tuple[Said, ...]:
        """All that is in force, as far as anybody can tell."""
        try:
            told = _understood(notice.read())
        except NoticeAway:
            told = None
        if told is not None:
            self._said, self._heard_at = told, time.monotonic()
        elif time.monotonic() - self._reread_at >= REREAD_SECONDS and self._reading.acquire(blocking=False):
            self._reread_at = time.monotonic()
            threading.Thread(target=self._read_rows, name="overrides", daemon=True).start()
        now = now_ms()
        return tuple(each for each in self._said if each.ends_at_ms > now)

    def _read_rows(self) -> None:
        began = time.monotonic()
        try:
            said = _rows_in_time()
            if self._heard_at < began:  # else Redis has said something newer
                self._said = tuple(said)
            notice.post([astuple(each) for each in said], TOLD_SECONDS, instead=False)
        except NoticeAway:
            pass  # the next one reads the rows again
        except (DatabaseError, *DATABASE_AWAY) as away:
            logger.warning("overrides cannot be read, the last ones are in force until they end: %s", away)
        except Exception:
            logger.exception("overrides could not be read")
        finally:
            connection.close()
            self._reading.release()


def _rows_in_time() -> list[Said]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(ROWS_TIMEOUT_MS)])
        return read()


def _understood(told: Any) -> tuple[Said, ...] | None:
    """None for what another version of this program may have hung up, or nobody."""
    try:
        return None if told is None else tuple(_one(*each) for each in told)
    except (TypeError, ValueError):
        logger.warning("overrides in Redis are not in a form of ours: PostgreSQL is asked")
        return None


def _one(kind: str, name: str, value: str, reason: str, ends_at_ms: int) -> Said:
    return Said(str(kind), str(name), str(value), str(reason), int(ends_at_ms))


def of_kind(said: Iterable[Said], kind: str) -> dict[str, Said]:
    """By name, of which each has one."""
    return {each.name: each for each in said if each.kind == kind}
