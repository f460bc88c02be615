"""What happens, as numbers for Prometheus.

Whoever counts binds the labels once (`REFUSALS.labels(...)` costs as much as counting does) and increments that.
Counting never raises: a request is worth more than its number. Binding may, and is done at the start.
"""

import logging
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import prometheus_client

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

#: Held by whoever counts, and by whoever forks: the client's own locks are free in the child. Re-entrant, because the
#: handler of a signal may count in the middle of it.
_counting = threading.RLock()
os.register_at_fork(before=_counting.acquire, after_in_child=_counting.release, after_in_parent=_counting.release)


def _whole(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Nobody forks in the middle of it."""

    @wraps(method)
    def whole(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with _counting:
            return method(*arguments, **named)

    return whole


def _counts(method: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """The same, and never raises: the folder of the processes' numbers is gone, say, or its disk is full."""

    @wraps(method)
    def counts(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        try:
            with _counting:
                method(*arguments, **named)
        except Exception:
            logger.exception("something was not counted")

    return counts


class Counter(prometheus_client.Counter):
    labels = _whole(prometheus_client.Counter.labels)
    inc = _counts(prometheus_client.Counter.inc)


class Gauge(prometheus_client.Gauge):
    labels = _whole(prometheus_client.Gauge.labels)
    set = _counts(prometheus_client.Gauge.set)


class Histogram(prometheus_client.Histogram):
    labels = _whole(prometheus_client.Histogram.labels)
    observe = _counts(prometheus_client.Histogram.observe)


#: Upper bounds in seconds: the promise is 300 ms, and what is over the last one is lost to whoever asked.
ANSWER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)

ANSWERS = Histogram(
    "http_answer_seconds",
    "From the door to the last header, by lane, view, method and status.",
    ["lane", "view", "method", "status"],
    buckets=ANSWER_BOUNDS,
)
REFUSALS = Counter(
    "http_refusals", "Turned away at the door, by lane, reason and importance.", ["lane", "reason", "importance"]
)
QUEUE_DELAY = Histogram(
    "http_queue_seconds", "From arrival to a place in the application, by lane.", ["lane"], buckets=ANSWER_BOUNDS
)
LEVEL = Gauge(
    "service_level",
    "0 normal, 1 brownout, 2 shed, 3 static: of the process that gives up most.",
    multiprocess_mode="livemax",
)
BREAKERS = Gauge(
    "breaker_state",
    "0 closed, 1 half open, 2 open, 3 forced open, -1 bypassed, of the process that is worst off.",
    ["dependency"],
    multiprocess_mode="livemax",
)
CALLS = Counter(
    "dependency_calls",
    "By dependency and result: ok, failed, slow, refused (breaker), full (bulkhead), late (deadline).",
    ["dependency", "result"],
)
RETRIES = Counter("retries", "Attempts after the first, by dependency.", ["dependency"])
RETRY_BUDGET = Gauge(
    "retry_budget",
    "Retries that are paid for, of the process that has fewest.",
    ["dependency"],
    multiprocess_mode="livemin",
)
RATE_LIMITED = Counter("rate_limited", "Asked to come back later, by limit and tier.", ["limit", "tier"])
CACHE_READS = Counter(
    "cache_reads",
    "Keys read from the cache, by the tier that answered, and what else happened to them: `cache.tallies.EVENTS`.",
    ["event"],
)
