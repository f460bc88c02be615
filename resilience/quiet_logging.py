"""Logging that a storm cannot drown: each kind of line has a token bucket, and what is left out is counted.

    install(Gate(key_burst=10, spared=["audit"]))

A kind is a logger, a level and a template (`"%s is away"`, before its arguments). So many lines of a kind are written
at once, then one a second; all kinds together have a bucket, too. How many were left out is said by the next line of
that kind, every ten seconds, and when the process ends.

The decision is made in `Logger._log`, before there is a record. A `logging.Filter`, on a logger or a handler, is asked
after the record has been built, and for a line that nobody will see that is nearly all there is to pay.

Some are not left out: the loggers that are `spared`, with all below them, and whatever happens on behalf of somebody
`watched` (`buyer:17`), which is also told in full detail, down to DEBUG.
"""

import atexit
import logging
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from resilience.counting import Counter
from resilience.log_lines import brief, labels

#: Lines of a kind that may come at once, and how many a second afterwards.
KEY_BURST = 10
KEY_LINES_A_SECOND = 1.0
#: Lines a second of a process, of all kinds together; as many at once.
LINES_A_SECOND = 200
#: Kinds that are told apart; further ones share a bucket. A kind that has been silent makes room for another.
KEYS_MAXIMUM = 1_024
#: Characters by which templates differ: a message that was put together before it was logged may have any number.
TEMPLATE_MAXIMUM = 200
#: Seconds between two reports of what was left out, and between two tracebacks of the same error in a kind.
TELL_SECONDS = 10.0
TRACEBACK_SECONDS = 60.0
#: Kinds of error that are told apart in a kind of line.
ERRORS_MAXIMUM = 16

LEFT_OUT = Counter("log_lines_left_out", "Log lines that were left out and have been counted in the log.")

#: Logger, level, template.
Key = tuple[str, int, str]


class _Bucket:
    """Of one kind. `free_at` is when all its lines are paid for: GCRA, as in `rate_limit`."""

    __slots__ = ("errors", "free_at", "left_out", "logger", "spared")

    def __init__(self, logger: logging.Logger, *, spared: bool) -> None:
        self.logger = logger
        self.spared = spared
        self.free_at = 0.0
        self.left_out = 0
        self.errors: dict[type, float] = {}


class Gate:
    """Says which lines are written. `watched` are labels (`request:4f1c`) and may be changed at any time."""

    def __init__(
        self,
        *,
        key_burst: int = KEY_BURST,
        key_lines_a_second: float = KEY_LINES_A_SECOND,
        lines_a_second: int = LINES_A_SECOND,
        keys_maximum: int = KEYS_MAXIMUM,
        spared: Iterable[str] = (),
        watched: Iterable[str] = (),
        tell_seconds: float = TELL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval, self._all_interval = 1 / key_lines_a_second, 1 / lines_a_second
        self._credit = self._interval * (key_burst - 1)
        self._all_credit = self._all_interval * (lines_a_second - 1)
        self._keys_maximum = keys_maximum
        self._spared = tuple(spared)
        self.watched = frozenset(watched)
        self._tell_seconds = tell_seconds
        self._clock = clock
        self._is_closed = False
        self.start_over()
        _gates.add(self)

    def start_over(self) -> None:
        """As new, also in a forked child: what the parent left out is the parent's to tell."""
        self._mutex = threading.RLock()  # a signal's handler may log in the middle of it
        self._buckets: dict[Key, _Bucket] = {}
        self._overflow = _Bucket(logging.getLogger(__name__), spared=False)
        self._all_free_at = 0.0
        self._teller: threading.Thread | None = None
        self._ended = threading.Event()

    # --- The decision -------------------------------------------------------------------------------------------

    def ask(self, logger: logging.Logger, level: int, template: object) -> int | None:
        """None: leave it out, it has been counted. Else write it; so many of its kind were left out before it."""
        with self._mutex:
            bucket = self._bucket(logger, level, template)
            if bucket.spared or self._is_closed:
                return 0
            now = self._clock()
            if bucket.free_at - now <= self._credit and self._all_free_at - now <= self._all_credit:
                bucket.free_at = max(now, bucket.free_at) + self._interval
                self._all_free_at = max(now, self._all_free_at) + self._all_interval
                left_out, bucket.left_out = bucket.left_out, 0
                return left_out
            bucket.left_out += 1
        if self._teller is None:
            self._start_teller()
        return None

    def wants_traceback(self, logger: logging.Logger, level: int, template: object, error: type) -> bool:
        """Once a while for each error: the first one shows where it comes from, the others only that it goes on."""
        with self._mutex:
            bucket, now = self._bucket(logger, level, template), self._clock()
            if bucket.spared:
                return True
            if now < bucket.errors.get(error, 0.0):
                return False
            if len(bucket.errors) >= ERRORS_MAXIMUM:
                bucket.errors.clear()
            bucket.errors[error] = now + TRACEBACK_SECONDS
            return True

    @property
    def is_watching(self) -> bool:
        """Whether what happens now is done for somebody watched."""
        return any(f"{name}:{value}" in self.watched for name, value in labels().items())

    def _bucket(self, logger: logging.Logger, level: int, template: object) -> _Bucket:
        text = template[:TEMPLATE_MAXIMUM] if type(template) is str else type(template).__name__
        key = (logger.name, level, text)
        return self._buckets.get(key) or self._new_bucket(key, logger)

    def _new_bucket(self, key: Key, logger: logging.Logger) -> _Bucket:
        spared = any(logger.name == name or logger.name.startswith(f"{name}.") for name in self._spared)
        if len(self._buckets) >= self._keys_maximum and not spared:
            return self._overflow
        bucket = _Bucket(logger, spared=spared)
        if len(self._buckets) < self._keys_maximum:
            self._buckets[key] = bucket
        return bucket

    # --- What was left out --------------------------------------------------------------------------------------

    def tell(self) -> None:
        """A line for each kind of which some were left out since its last line."""
        for logger, level, template, count in self._take():
            text, extra = "%d lines like this were left out: %s", {"left_out": count}
            record = logger.makeRecord(logger.name, level, __file__, 0, text, (count, template), None, extra=extra)
            LEFT_OUT.inc(count)
            logger.handle(record)

    def _take(self) -> list[tuple[logging.Logger, int, str, int]]:
        """The counts, which begin again; kinds that have been silent make room."""
        with self._mutex:
            kinds = [*self._buckets.items(), (("", logging.WARNING, "(of too many kinds)"), self._overflow)]
            found = [(kind.logger, key[1], key[2], kind.left_out) for key, kind in kinds if kind.left_out]
            now = self._clock()
            for key, kind in kinds:
                if not kind.left_out and max(kind.free_at, *kind.errors.values(), 0.0) <= now:
                    self._buckets.pop(key, None)
                kind.left_out = 0
            return found

    def _start_teller(self) -> None:
        with self._mutex:
            if self._teller is not None:
                return
            self._teller = threading.Thread(target=self._tell_again_and_again, name="log teller", daemon=True)
        with suppress(RuntimeError):  # no thread when Python ends: `close` tells the rest
            self._teller.start()

    def _tell_again_and_again(self) -> None:
        while not self._ended.wait(self._tell_seconds):
            self.tell()

    def close(self) -> None:
        """Tell the rest; from now on nothing is left out."""
        with self._mutex:
            self._is_closed = True
        self._ended.set()
        self.tell()


class QuietLogger(logging.Logger):
    """A logger that asks `gate` before it builds a record."""

    gate: Gate | None = None

    def isEnabledFor(self, level: int) -> bool:
        if super().isEnabledFor(level):
            return True
        gate = self.gate
        return gate is not None and bool(gate.watched) and gate.is_watching

    def _log(
        self,
        level: int,
        msg: object,
        args: Any,
        exc_info: Any = None,
        extra: Mapping[str, object] | None = None,
        stack_info: bool = False,
        stacklevel: int = 1,
    ) -> None:
        gate = self.gate
        if gate is not None and not (gate.watched and gate.is_watching):
            left_out = gate.ask(self, level, msg)
            if left_out is None:
                return
            if left_out:
                LEFT_OUT.inc(left_out)
                extra = {**(extra or {}), "left_out": left_out}
            error = _error_of(exc_info) if exc_info else None
            if error is not None and not gate.wants_traceback(self, level, msg, type(error)):
                exc_info, extra = None, {**(extra or {}), "error": brief(error)}
        super()._log(level, msg, args, exc_info, extra, stack_info, stacklevel + 1)  # the caller's frame, not this one


class _QuietRoot(QuietLogger, logging.RootLogger):
    """The logger above all others, which exists before anybody can choose its class."""


def _error_of(exc_info: Any) -> BaseException | None:
    """What the caller of a logger means by `exc_info`: an exception, the three of sys.exc_info(), or True."""
    if isinstance(exc_info, BaseException):
        return exc_info
    found: BaseException | None = (exc_info if isinstance(exc_info, tuple) else sys.exc_info())[1]
    return found


def install(gate: Gate | None) -> None:
    """All loggers ask this gate, also those that are there already; None: nobody asks any more."""
    if QuietLogger.gate is not None:
        QuietLogger.gate.close()
        atexit.unregister(QuietLogger.gate.close)
    QuietLogger.gate = gate
    logging.setLoggerClass(QuietLogger)
    logging.root.__class__ = _QuietRoot
    for logger in list(logging.root.manager.loggerDict.values()):
        if type(logger) is logging.Logger:
            logger.__class__ = QuietLogger
    if gate is not None:
        atexit.register(gate.close)  # after logging's own, so before it: handlers are still open then


def may_write(logger: logging.Logger, level: int) -> bool:
    """False when no line of this level is written on behalf of anybody: then nobody needs to say on whose it would be.
    `isEnabledFor` speaks of the labels of this moment alone."""
    gate = QuietLogger.gate
    return logging.Logger.isEnabledFor(logger, level) or (gate is not None and bool(gate.watched))


def configure(options: dict[str, Any]) -> None:
    """For Django's LOGGING_CONFIG: a dictConfig whose `quiet` holds the arguments of the gate."""
    logging.config.dictConfig({name: value for name, value in options.items() if name != "quiet"})
    install(Gate(**options["quiet"]))


def finish() -> None:
    """Tell and write all that waits: for a process that ends without Python's ceremony, as a forked child does."""
    if QuietLogger.gate is not None:
        QuietLogger.gate.close()
    logging.shutdown()


_gates: "WeakSet[Gate]" = WeakSet()


def _start_over_in_a_fork() -> None:
    for gate in list(_gates):
        gate.start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
