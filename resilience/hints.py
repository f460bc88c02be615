"""What one process found out, as a hint to the others: the breaker of this dependency has just opened there.

    hints = Hints("redis")
    breaker.listen(hints.tell)
    ...
    hints.tick()  # by a side thread, four times a second

A hint lowers what a breaker needs to open, and never opens it: each process judges by its own calls, and a process with
a broken network of its own takes nobody along. Hints live in cache Redis for as long as the breaker stays open. When
that is away there are none, and nothing else happens.
"""

import math
import os
import threading

import redis
from django_redis import get_redis_connection

from resilience import breaker
from resilience.breaker import OPEN, Breaker
from resilience.cache_redis import guard_of
from resilience.refused import Refused

#: Seconds between two looks: half of what a breaker stays open at least, so that none is missed.
EVERY_SECONDS = 0.25


class Hints:
    """Of one process. `alias` is a django-redis cache of Django's settings."""

    def __init__(self, alias: str, *, prefix: str = "breaker:") -> None:
        self._alias = alias
        self._prefix = prefix
        self._opened: dict[str, float] = {}  # name -> seconds that it stays open; not told yet

    def tell(self, opened: Breaker, state: str) -> None:
        """To be called when a breaker changes. Only remembers: the caller may be somebody's request."""
        if state == OPEN:
            self._opened[opened.name] = opened.open_seconds_left

    def tick(self) -> None:
        """Tell the others of ours, and hear of theirs: two trips at most, usually one. Never raises."""
        ours, self._opened = self._opened, {}
        names = sorted({each.name for each in breaker.all_of_this_process()})
        try:
            with guard_of(self._alias).watching():
                lives = self._exchange(ours, names)
        except (Refused, redis.RedisError, OSError):
            return
        for each in breaker.all_of_this_process():
            if life_ms := lives.get(each.name, 0):
                each.hint(life_ms / 1000)

    def _exchange(self, ours: dict[str, float], names: list[str]) -> dict[str, int]:
        """Milliseconds that each breaker stays open somewhere; those that are closed everywhere are left out."""
        step = get_redis_connection(self._alias).pipeline(transaction=False)
        for name, seconds in ours.items():
            step.set(self._key(name), math.ceil(seconds * 1000), px=max(1, math.ceil(seconds * 1000)))
        if names:
            step.mget([self._key(name) for name in names])
        values = step.execute()[-1] if names else []
        return {name: int(value) for name, value in zip(names, values, strict=True) if value and value.isdigit()}

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}{name}".encode(errors="surrogatepass")


class HintThread:
    """`tick` four times a second, on a thread of this process that a fork starts for itself."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._process = 0
        self._ended = threading.Event()

    def start(self) -> None:
        """Safe to repeat."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._ended = threading.Event()
        breaker.listen(self._hints.tell)
        threading.Thread(target=self._tick_for_ever, name="breaker-hints", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        breaker.stop_listening(self._hints.tell)

    def _tick_for_ever(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._hints.tick()
