"""Prometheus's numbers, made safe to count with in the middle of a request, in processes that fork.

Counting never raises: a request is worth more than its number. Binding labels may, and is done at the start.

`OftenCounter` and `OftenHistogram` are for what each request moves. A number that several processes share lives in a
file, and moving it takes 2 us, a histogram's 4 us (measured): a fifth of what a hot answer costs. These add up in this
process's memory, for 0.2 us, and are carried on to Prometheus's by a thread twice a second, and by whoever reads them.
A process that is killed takes with it what it counted since.
"""

import atexit
import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakSet

import prometheus_client
from prometheus_client.metrics import Sample

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: Seconds between two times that sums are carried on: a scrape comes less often.
CARRY_SECONDS = 0.5
#: With it in the environment, processes share their numbers in files.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

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


# --- What each request moves -----------------------------------------------------------------------------------------
#
# No lock: CPython changes threads at calls and backward jumps only, and there is none between the read and the write of
# `x += y`.


class _Sums(Protocol):
    def carry_on(self) -> None:
        """Move to Prometheus what was added up here."""

    def start_over(self) -> None:
        """With nothing added up: in a forked child it is the parent's."""


class OftenCounter(Counter):
    def _metric_init(self) -> None:
        super()._metric_init()
        self.start_over()
        _sums.add(self)

    def start_over(self) -> None:
        self._waiting = 0.0

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self._waiting += amount

    @_counts
    def carry_on(self) -> None:
        amount = self._waiting
        if amount:
            self._waiting -= amount
            super().inc(amount)

    def _child_samples(self) -> Iterable[Sample]:
        self.carry_on()
        return super()._child_samples()


class OftenHistogram(Histogram):
    def _metric_init(self) -> None:
        super()._metric_init()
        self.start_over()
        _sums.add(self)

    def start_over(self) -> None:
        self._waiting, self._waiting_sum = [0] * len(self._upper_bounds), 0.0

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._waiting[bisect_left(self._upper_bounds, amount)] += 1
        self._waiting_sum += amount

    @_counts
    def carry_on(self) -> None:
        for at, number in enumerate(self._waiting):
            if number:
                self._waiting[at] -= number
                self._buckets[at].inc(number)
        seconds = self._waiting_sum
        self._waiting_sum -= seconds
        self._sum.inc(seconds)

    def _child_samples(self) -> Iterable[Sample]:
        self.carry_on()
        return super()._child_samples()


_sums: WeakSet[_Sums] = WeakSet()


def carry_on_all() -> None:
    """Before somebody reads the files, and before this process ends."""
    with _counting:
        every = list(_sums)
    for each in every:
        each.carry_on()


def _keep_carrying() -> None:
    while True:
        time.sleep(CARRY_SECONDS)
        carry_on_all()


def _start_carrying() -> None:
    """Without files, whoever reads is in this process, and carries them on."""
    if FOLDER in os.environ:
        threading.Thread(target=_keep_carrying, name="carry-numbers", daemon=True).start()


def _start_over_in_a_fork() -> None:
    for each in list(_sums):
        each.start_over()
    _start_carrying()


_start_carrying()
atexit.register(carry_on_all)
os.register_at_fork(after_in_child=_start_over_in_a_fork)
