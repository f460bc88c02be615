"""Cache keys that a tier refused to forget: workers try again, until the entries have ended by themselves."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from django.core.cache import caches

from resilience.cache.away import TierAway
from shop import celery

#: Seconds until a tier that refused an invalidation is asked again. Who comes meanwhile with the same keys is served by
#: the message that waits.
AGAIN_SECONDS = 2
#: Key sets that a process remembers; with more of them it sends some twice, which does no harm.
KEY_SETS_MAXIMUM = 1_000


class _Waiting:
    """Which key sets somebody waits for already, and until when."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._who: dict[tuple[str, ...], tuple[str, float]] = {}

    def take(self, keys: Sequence[str], who: str, seconds: float) -> bool:
        """True when `who` is the one that waits for these now; False when another one does."""
        now, name = time.monotonic(), tuple(sorted(keys))
        with self._changing:
            other, until = self._who.get(name, (who, now))
            if other != who and now < until:
                return False
            if len(self._who) >= KEY_SETS_MAXIMUM:
                self._who.clear()
            self._who[name] = who, now + seconds
            return True


_sent = _Waiting()
_tried = _Waiting()


def send(keys: Sequence[str]) -> None:
    """Have a worker do it in some seconds; nothing when a message of this process is about to be tried.

    Publishes, so it may take as long as the broker does. Raises what Celery raises when there is no broker.
    """
    sent = f"message {time.monotonic_ns()}"  # each is another one: the same keys a moment later belong to this one
    if _sent.take(keys, sent, AGAIN_SECONDS):
        celery.app.send_task("shop.invalidate", [list(keys)], countdown=AGAIN_SECONDS, retry=False)


def try_again(keys: Sequence[str], message: str) -> None:
    """Raises TierAway when a tier is still away and this is the message that has to come again: of several about the
    same keys, the first one that met the tier away stays."""
    cache: Any = caches["default"]
    try:
        cache.forget_everywhere(keys)
    except TierAway:
        from_now = celery.app.tasks["shop.invalidate"].retry_backoff_max + AGAIN_SECONDS
        if _tried.take(keys, message, from_now):
            raise
