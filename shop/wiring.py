"""The place where the parts meet: what inventory needs from the outside is handed to it here."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

from celery.signals import worker_process_init
from django.conf import settings
from django.db import connections
from django.utils import translation
from kombu.exceptions import OperationalError

from inventory import doorbell
from inventory.admin import Record
from resilience import breaker, parallel
from resilience.cache import stack
from resilience.hints import Hints, HintThread
from shop import celery, invalidations, level_watch, levels, postman, publishing

#: Seconds after which a ring is worth nothing: the beat has rung since.
RING_EXPIRES = 5
#: Doorbell -> Celery task and queue.
_TASKS = {doorbell.DRAIN: ("shop.drain", "drain"), doorbell.SETTLE: ("shop.settle", "effects")}

_hints = HintThread(Hints("redis"))


def connect() -> None:
    breaker.leave_alone(*settings.BREAKER_OPEN_SECONDS)
    doorbell.install(_publish)
    publishing.connect()
    stack.install(after_background_load=connections.close_all, invalidate_later=_invalidate_later)
    parallel.install(_as_here)
    Record.may_search = staticmethod(levels.ADMIN_SEARCH.is_on)
    worker_process_init.connect(_watch_the_level)


def _watch_the_level(**_: Any) -> None:
    """In each process of Celery's pool, after its fork, which no thread survives: staff's orders count there, too."""
    level_watch.start()


def share_breakers() -> None:
    """Tell the other web processes when a breaker opens, and hear of theirs. A worker judges by its own calls alone."""
    _hints.start()


def _as_here() -> AbstractContextManager[None]:
    return _speaking(translation.get_language())


@contextmanager
def _speaking(language: str | None) -> Iterator[None]:
    """The language of whoever asked, which Django keeps for each thread, and no connection that is kept afterwards."""
    with translation.override(language):
        try:
            yield
        finally:
            connections.close_all()


def _invalidate_later(keys: Sequence[str]) -> None:
    """In some seconds, and again until the tiers take it; without a broker, the entries end by themselves."""
    with suppress(OperationalError):  # too many wait already
        postman.post(partial(invalidations.send, list(keys)))


def _publish(name: str) -> None:
    task, queue = _TASKS[name]
    with postman.guard.watching():
        celery.app.send_task(task, queue=queue, expires=RING_EXPIRES, retry=False)
