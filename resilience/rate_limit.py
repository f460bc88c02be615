"""Rate limits: GCRA in this process's memory first, then in Redis, where all processes count together.

    limiter = RateLimiter("redis", processes=4)
    wait = limiter.retry_after((PER_BUYER, "17"), (PER_ADDRESS, "203.0.113.9"))
    if wait:
        ...  # refused; worth trying again after so many seconds

GCRA (the generic cell rate algorithm, ITU-T I.371) needs one number a key: the moment at which all that was admitted
has been paid for. It is a token bucket without a timer, and its refusal knows how long it lasts.

Memory refuses what is too much for one process alone, without a trip, and remembers Redis's refusals until they end.
Who asks Redis at the same moment shares a trip. While Redis is away each process admits its share of the limit: some
clients wait without need, none is unlimited.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import redis
from django_redis import get_redis_connection

from resilience.batching import AnswerLate, Batcher
from resilience.cache_redis import guard_of
from resilience.metrics import RATE_LIMITED
from resilience.refused import Refused

#: Keys that a process remembers: at about 150 bytes each, some megabytes for a crowd of tens of thousands.
KEYS_MAXIMUM = 50_000
MICROSECONDS = 1_000_000
#: Callers in one trip, and that may wait for the next one: more than a process has threads.
TRIP_CALLERS = 256
QUEUE_CALLERS = 1_024
#: Seconds until the answer of a trip, the one before it included: each ends by the timeout of its client.
ANSWER_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Limit:
    """So many at once (`burst`), then one in every `interval_seconds`, for each key."""

    name: str
    interval_seconds: float
    burst: int
    #: How far a burst may run ahead of the clock.
    credit_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        if not self.name or self.interval_seconds <= 0 or self.burst < 1:
            raise ValueError(f"no limit: {self.name!r}, one in {self.interval_seconds} s, {self.burst} at once")
        object.__setattr__(self, "credit_seconds", self.interval_seconds * (self.burst - 1))

    def share(self, processes: int) -> "Limit":
        """What each of so many processes may admit by itself. At least one at once, or nobody would get in."""
        return Limit(self.name, self.interval_seconds * processes, max(1, self.burst // processes))


#: A limit, and whom it limits.
Asked = tuple[Limit, str]


class RateLimiter:
    """`alias` is a django-redis cache of Django's settings; `processes` is how many share each limit."""

    def __init__(
        self, alias: str, *, processes: int = 1, prefix: str = "rate:", keys_maximum: int = KEYS_MAXIMUM
    ) -> None:
        self._alias = alias
        self._prefix = prefix
        self._processes = processes
        self._own = _Memory(keys_maximum)
        self._shares = _Memory(keys_maximum)
        self._trips = Batcher[Mapping[str, Limit], Sequence[float]](
            self._send, batch_maximum=TRIP_CALLERS, queue_maximum=QUEUE_CALLERS
        )
        self.start_over()
        _limiters.add(self)

    def start_over(self) -> None:
        """With new locks, as a forked child needs: a thread that it has not may have held the old ones."""
        for memory in (self._own, self._shares):
            memory.mutex = threading.Lock()

    def retry_after(self, *asked: Asked) -> float:
        """0.0 when every limit admits this one; else seconds until all would, and then it counts for none in Redis.

        Raises ValueError for an empty key: clients without a name would share one limit by accident.
        """
        limits = {}
        for limit, key in asked:
            if not key:
                raise ValueError(f"limit {limit.name!r} was asked about an empty key")
            limits[f"{limit.name}:{key}"] = limit
        if not limits:
            return 0.0
        if wait := self._own.admit(limits):
            return self._counted(wait, "memory", self._own, limits)
        try:
            waits = self._trips.call(limits, time.monotonic() + ANSWER_SECONDS)
        except (Refused, AnswerLate, redis.RedisError, OSError):
            shares = {name: limit.share(self._processes) for name, limit in limits.items()}
            return self._counted(self._shares.admit(shares), "share", self._shares, shares)
        self._own.remember({name: (limit, wait) for (name, limit), wait in zip(limits.items(), waits, strict=True)})
        return self._counted(max(waits), "redis", self._own, limits)

    @staticmethod
    def _counted(wait: float, tier: str, memory: "_Memory", limits: Mapping[str, Limit]) -> float:
        """The wait; if there is one, it is counted for the limit that asks for the longest."""
        if wait:
            _count_of(memory.tightest(limits).name, tier).inc()
        return wait

    def _send(self, callers: Sequence[Mapping[str, Limit]]) -> Sequence[Sequence[float] | Exception]:
        """The waits of each caller in seconds, by one trip for all; an error is that of one caller alone."""
        with guard_of(self._alias).watching():
            client = get_redis_connection(self._alias)
            try:
                answers = self._run(client, callers)
            except redis.exceptions.NoScriptError:
                client.script_load(_source())
                answers = self._run(client, callers)
        return [
            answer if isinstance(answer, Exception) else [wait / MICROSECONDS for wait in answer] for answer in answers
        ]

    def _run(self, client: Any, callers: Sequence[Mapping[str, Limit]]) -> list[Any]:
        """Raises NoScriptError when Redis does not know the script: then it has run for nobody."""
        step = client.pipeline(transaction=False)
        for limits in callers:
            keys = [f"{self._prefix}{name}".encode(errors="surrogatepass") for name in limits]
            numbers = [n for each in limits.values() for n in (int(each.interval_seconds * MICROSECONDS), each.burst)]
            step.evalsha(_digest(), len(keys), *keys, *numbers)
        answers: list[Any] = step.execute(raise_on_error=False)
        if unknown := next((each for each in answers if isinstance(each, redis.exceptions.NoScriptError)), None):
            raise unknown
        return answers


class _Memory:
    """When each key is free again. Of two halves the older one is forgotten when the newer one is full.

    That costs the same for any number of keys, where looking for the oldest one, or for those that have ended, would
    cost most when a crowd of strangers comes. Who is forgotten so has a new burst here; Redis still knows better.
    """

    def __init__(self, keys_maximum: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._half = max(1, keys_maximum // 2)
        self._newer: dict[str, float] = {}
        self._older: dict[str, float] = {}
        self.mutex = threading.Lock()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def admit(self, limits: Mapping[str, Limit]) -> float:
        """Seconds to wait; 0.0 when all limits admit it, and only then it counts."""
        wait = 0.0
        with self.mutex:
            now = self._clock()
            for name, limit in limits.items():
                ahead = self._free_at(name) - now - limit.credit_seconds
                if ahead > wait:
                    wait = ahead
            if not wait:
                for name, limit in limits.items():
                    self._keep(name, max(now, self._free_at(name)) + limit.interval_seconds)
        return wait

    def tightest(self, limits: Mapping[str, Limit]) -> Limit:
        """The one that admits its key last."""
        return limits[max(limits, key=lambda name: self._free_at(name) - limits[name].credit_seconds)]

    def remember(self, refused: Mapping[str, tuple[Limit, float]]) -> None:
        """Who has to wait by Redis is refused here until then."""
        with self.mutex:
            now = self._clock()
            for name, (limit, wait) in refused.items():
                if wait:
                    self._keep(name, now + wait + limit.credit_seconds)

    def _free_at(self, name: str) -> float:
        found = self._newer.get(name)
        return self._older.get(name, 0.0) if found is None else found

    def _keep(self, name: str, free_at: float) -> None:
        if len(self._newer) >= self._half and name not in self._newer:
            self._older, self._newer = self._newer, {}
        self._newer[name] = free_at


@cache
def _count_of(limit: str, tier: str) -> Any:
    return RATE_LIMITED.labels(limit, tier)


@cache
def _source() -> str:
    return Path(__file__).with_suffix(".lua").read_text()


@cache
def _digest() -> str:
    return hashlib.sha1(_source().encode(), usedforsecurity=False).hexdigest()


_limiters: "WeakSet[RateLimiter]" = WeakSet()


def _start_over_in_a_fork() -> None:
    for limiter in list(_limiters):
        limiter.start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
