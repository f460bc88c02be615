"""Tasks that were given up: one loud line, and a row that staff see in the back office until somebody has looked."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import F
from django.db.models.functions import Now

from inventory import outbox
from resilience.cache.away import TierAway
from shop.models import DeadTask
from shop.provider import ProviderRefused, ProviderUnavailable

#: Faults of the world around us: what the beat starts again is to blame for none of them.
AWAY = (*outbox.AWAY, ProviderUnavailable, TierAway)
#: Rows that are kept: more different tasks that always fail are one fault, which some of them show as well.
ROWS_MAXIMUM = 1_000
#: Characters of arguments and of an error that are kept.
TEXT_MAXIMUM = 2_000

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


def hear(sender: Any, args: Any, kwargs: Any, exception: BaseException, **_: Any) -> None:
    """Celery's word of a task that failed, after its last retry. What the beat starts again is not given up because
    something is away."""
    if sender.policy != "repeated" or not is_nobodys_fault(exception):
        keep(sender.name, [*args, *([kwargs] if kwargs else [])], exception)


def is_nobodys_fault(error: BaseException) -> bool:
    """Something is away, which has nothing to do with what was asked of it."""
    return isinstance(error, AWAY) and not isinstance(error, ProviderRefused)


def in_turn(items: Iterable[Item], do: Callable[[Item], int]) -> int:
    """The sum of what it answers. One that always fails holds up nobody: its error is raised when all others had their
    turn; something that is away ends it at once."""
    done, trouble = 0, None
    for item in items:
        try:
            done += do(item)
        except Exception as error:
            if is_nobodys_fault(error):
                raise
            trouble = trouble or error
    if trouble:
        raise trouble
    return done


def keep(name: str, arguments: Any, error: BaseException) -> None:
    """Write down that the task failed for good; again, it only counts. Never raises."""
    told = json.dumps(arguments, default=repr)[:TEXT_MAXIMUM]
    logger.error("task %s is given up, arguments %s: %r", name, told, error)
    try:
        with transaction.atomic():
            _count(name, told, repr(error)[:TEXT_MAXIMUM])
    except DatabaseError as away:
        logger.error("task %s is not among the dead ones, because PostgreSQL does not write: %s", name, away)


def _count(name: str, told: str, error: str) -> None:
    digest = hashlib.blake2b(f"{name} {told}".encode(errors="surrogatepass"), digest_size=16).hexdigest()
    error = error.replace("\0", "\\0")  # which PostgreSQL cannot keep
    same = DeadTask.objects.filter(digest=digest)
    if same.update(times=F("times") + 1, error=error, last_failed_at=Now(), looked_at=None):
        return
    if DeadTask.objects.count() < ROWS_MAXIMUM:
        DeadTask.objects.bulk_create(
            [DeadTask(digest=digest, name=name, arguments=told, error=error)], ignore_conflicts=True
        )
