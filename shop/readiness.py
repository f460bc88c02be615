"""What this process knows of the servers it needs: each is asked once a second, by a thread of its own.

A probe reads what is known and asks nobody, so it is answered in the middle of any outage. One question to a server is
under way at a time: one that hangs costs one thread, and keeps no other from being asked. What nobody has heard of for
STALE_SECONDS is unknown, whatever the reason: a thread may have died, too.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.db import connection

from inventory import lag, stock
from inventory.outcomes import InventoryFull

#: Seconds between two questions.
ASK_EVERY_SECONDS = 1.0
#: Seconds after which a server that has not answered is down.
ANSWER_SECONDS = 0.8
#: Seconds after which an answer says nothing any more: two further ones are missing.
STALE_SECONDS = 3.0
#: In the STATE folder; while it is there, this machine asks to be sent nobody any more.
DRAINING = "draining"


class Unknown(Exception):
    """Nobody has said anything lately."""


class Silent(Exception):
    """It was asked, and has not answered in time."""


class Part:
    """One server, or whatever else takes a look."""

    def __init__(self, name: str, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._asked_at: float | None = None
        self._heard_at = 0.0
        self._heard: Any = Unknown()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_again_and_again, name=f"readiness {name}", daemon=True)
        self._thread.start()

    def _ask_again_and_again(self) -> None:
        while True:
            self._asked_at = time.monotonic()
            try:
                heard = self._ask()
            except Exception as error:
                heard = error
            self._heard, self._heard_at, self._asked_at = heard, time.monotonic(), None
            if self._ended.wait(ASK_EVERY_SECONDS):
                return

    def end(self) -> None:
        self._ended.set()
        self._thread.join(ANSWER_SECONDS)

    @property
    def latest(self) -> Any:
        """What it answered, or the error that it answered with, or Silent, or Unknown."""
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > ANSWER_SECONDS:
            return Silent() if self._thread.is_alive() else Unknown()
        return self._heard if self.age_seconds <= STALE_SECONDS else Unknown()

    @property
    def age_seconds(self) -> float:
        """How old its answer is."""
        return time.monotonic() - self._heard_at


class Watch:
    """The parts of this process; `of` a name starts to ask when nobody did so before."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """As new, also in a forked child, which has none of the threads."""
        self._parts: dict[str, Part] = {}
        self._starting = threading.Lock()

    def parts(self) -> dict[str, Part]:
        with self._starting:
            if not self._parts:
                self._parts = {name: Part(name, ask) for name, ask in _questions().items()}
            return self._parts

    def end(self) -> None:
        """Nobody is asked any more, until somebody wants to know again."""
        with self._starting:
            parts, self._parts = self._parts, {}
        for part in parts.values():
            part.end()


def _questions() -> dict[str, Callable[[], Any]]:
    cache: Any = caches["default"]
    questions: dict[str, Callable[[], Any]] = {
        "stock": stock.ready,
        "database": _select_one,
        "cache": cache.ask_redis,
        "memcached": cache.ask_memcached,
        "lag": lag.lag,
        "draining": (settings.STATE / DRAINING).exists,
    }
    if not settings.MEMCACHED_URLS:
        del questions["memcached"]
    return questions


def _select_one() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def word(latest: Any) -> str:
    """Of a Redis that is `full`: it answers polls and records what it holds, and refuses every reservation."""
    match latest:
        case Unknown():
            return "unknown"
        case InventoryFull():
            return "full"
        case Exception():
            return "down"
        case _:
            return "up"


watch = Watch()
os.register_at_fork(after_in_child=watch.start_over)
