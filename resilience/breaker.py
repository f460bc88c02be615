"""A circuit breaker around calls that other threads make at the same moment.

    breaker = Breaker("payment provider")
    with breaker.watching():
        ask()

It opens when nobody gets an answer any more (some failures in a row, calls that hang among them), and when too many of
the calls of its window failed or were slow. Then calls are refused; after a while some are let through on trial, and
when they succeed it closes.

pybreaker keeps the state and is the switch. It holds its lock while it makes a call, so that eight threads of 50 ms
each would take 400 ms, and it counts failures in a row alone: here the call is made outside any lock, and the counting
is ours.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from types import TracebackType
from typing import Any, Final
from weakref import WeakSet

import pybreaker

from resilience.metrics import BREAKERS
from resilience.refused import Refused
from resilience.window import Window

#: For pybreaker, which is told what to do and must do nothing by itself.
NEVER = 10**9
#: The open time is so much shorter or longer, so that processes do not all try at the same moment.
OPEN_SPREAD = 0.2

CLOSED, HALF_OPEN, OPEN = pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN
FORCED_OPEN, BYPASSED = "forced open", "bypassed"
AUTOMATIC = "automatic"
#: As metrics.BREAKERS says.
STATE_NUMBERS: Final = {CLOSED: 0, HALF_OPEN: 1, OPEN: 2, FORCED_OPEN: 3, BYPASSED: -1}
#: The generation of calls that nobody counts.
UNCOUNTED = -1

logger = logging.getLogger(__name__)

Errors = tuple[type[BaseException], ...]


class BreakerOpen(Refused):
    """It failed just now, and was not tried again. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a breaker opens, and how it closes. Raises ValueError with the name and the range of what makes no sense."""

    #: Failures with no success in between, hanging calls included: a hung neighbour costs three timeouts ...
    failures_in_a_row: int = 3
    #: ... when for so many seconds nothing succeeded: of a thousand calls a second, three in a row fail by chance.
    silence_seconds: float = 0.02
    window_seconds: int = 10
    #: Calls of the window with fewer than which its shares mean nothing.
    calls_minimum: int = 20
    failure_share: float = 0.5
    slow_share: float = 0.5
    #: Below 0.2 s other threads' work alone makes healthy calls look slow (measured: up to 0.1 s next to four of them).
    slow_seconds: float = 0.2
    #: Until it is tried again. Doubles each time the trials fail; starts anew after so many seconds of calm.
    open_seconds: float = 1.0
    open_maximum_seconds: float = 30.0
    calm_seconds: float = 10.0
    #: Calls that are on trial at a moment; when so many have succeeded it closes.
    trials: int = 3

    def __post_init__(self) -> None:
        for name, least, most in (
            ("failures_in_a_row", 1, 1_000),
            ("silence_seconds", 0, 1),
            ("window_seconds", 1, 600),
            ("calls_minimum", 1, 1_000_000),
            ("failure_share", 0.01, 1),
            ("slow_share", 0.01, 1),
            ("slow_seconds", 0.001, 60),
            ("open_seconds", 0.001, self.open_maximum_seconds),
            ("open_maximum_seconds", 0.001, 3_600),
            ("calm_seconds", 0, 3_600),
            ("trials", 1, 100),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, not {getattr(self, name)}")


class Call:
    """One call: `with` admits it or raises BreakerOpen, and its end tells the breaker what came of it."""

    __slots__ = ("_breaker", "_error", "_ignored", "generation", "started_at", "took_seconds")

    def __init__(self, breaker: "Breaker") -> None:
        self._breaker = breaker
        self._error: object = None
        self._ignored = False
        self.generation = UNCOUNTED
        self.started_at = 0.0
        self.took_seconds = 0.0

    def failed(self, why: object) -> None:
        """Say so where the call fails without an exception."""
        self._error = why

    def ignore(self) -> None:
        """What becomes of it says nothing about the dependency."""
        self._ignored = True

    @property
    def is_slow(self) -> bool:
        return self.took_seconds >= self._breaker.thresholds.slow_seconds

    def __enter__(self) -> "Call":
        self._breaker._admit(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._error = error
            if not issubclass(kind, Exception) or issubclass(kind, self._breaker.ignoring):
                self._ignored = True  # a caller that was killed says nothing about what it called, either
        self._breaker._ended(self, self._error, self._ignored)


#: Told of each change of a state: the breaker, and the word of its new state.
Listener = Callable[["Breaker", str], object]


class Breaker:
    """`with breaker.watching(): call()`: counts what the call raises, and refuses calls that would fail anyway."""

    def __init__(
        self,
        name: str,
        thresholds: Thresholds | None = None,
        *,
        ignoring: Errors = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Exceptions that are `ignoring` say nothing about the dependency; nor do refusals of others, ever."""
        self.name = name
        self.thresholds = thresholds or Thresholds()
        self.ignoring: Errors = (Refused, *ignoring)
        self._clock = clock
        self._number = BREAKERS.labels(name)
        self.start_over()
        _breakers.add(self)

    def start_over(self) -> None:
        """As new, also in a forked child: a thread that it has not may have held the lock."""
        self._mutex = threading.Lock()
        self._switch = pybreaker.CircuitBreaker(fail_max=NEVER, reset_timeout=NEVER, listeners=[_Bridge(self)])
        self._changes: list[str] = []  # that nobody was told of yet
        self._mode = AUTOMATIC
        self._generation = 0
        self._openings = 0
        self._tries_again_at = 0.0
        self._hinted_until = -math.inf
        self._closed_at = -math.inf
        self._start_counting()
        self._number.set(STATE_NUMBERS[CLOSED])

    def _start_counting(self) -> None:
        """A new generation: calls that began before end without being counted."""
        self._generation += 1
        self._window = Window(self.thresholds.window_seconds)
        self._row = 0
        self._succeeded_at = -math.inf
        self._under_way: dict[Call, None] = {}  # the oldest one first
        self._overdue: set[Call] = set()
        self._permits = self._successes_missing = self.thresholds.trials

    # What callers see

    @property
    def state(self) -> str:
        """`closed`, `half-open`, `open`, `forced open` or `bypassed`."""
        return str(self._switch.current_state) if self._mode is AUTOMATIC else self._mode

    @property
    def is_closed(self) -> bool:
        return self.state == CLOSED

    @property
    def open_seconds_left(self) -> float:
        """Until the first trial; 0.0 unless it is open."""
        return max(0.0, self._tries_again_at - self._clock()) if self.state == OPEN else 0.0

    @property
    def silent_seconds(self) -> float:
        """Since the last success of this state; infinitely many when there was none."""
        return self._clock() - self._succeeded_at

    def watching(self) -> Call:
        """Raises BreakerOpen without trying, or whatever the call raised."""
        return Call(self)

    def check(self) -> None:
        """Raises BreakerOpen when a call would hear it; admits nobody."""
        with self._mutex:
            refused = self._mode is FORCED_OPEN or (self._mode is AUTOMATIC and self._is_shut(self._clock()))
        self._tell()
        if refused:
            raise BreakerOpen(self.name)

    # What staff may do

    def force_open(self) -> None:
        """Refuse every call until somebody says otherwise."""
        self._set_mode(FORCED_OPEN)

    def bypass(self) -> None:
        """Let every call through and count nothing."""
        self._set_mode(BYPASSED)

    def automatic(self) -> None:
        """Decide by itself again, closed at first."""
        self._set_mode(AUTOMATIC)

    def _set_mode(self, mode: str) -> None:
        with self._mutex:
            if mode is self._mode:
                return
            self._mode = mode
            self._openings = 0
            self._start_counting()
            if mode is FORCED_OPEN:
                self._switch.open()
            else:
                self._switch.close()
        logger.warning("%s: by order its breaker is %s", self.name, mode)
        self._tell()

    def hint(self, seconds: float) -> None:
        """Another process found it failing: for so long, one failure of our own is enough. Opens nothing by itself."""
        self._hinted_until = self._clock() + seconds

    # The life of a call

    def _admit(self, call: Call) -> None:
        with self._mutex:
            call.started_at = now = self._clock()
            refused = self._refuses(now)
            if not refused and self._mode is AUTOMATIC:
                call.generation = self._generation
                self._under_way[call] = None
        if self._changes:
            self._tell()
        if refused:
            raise BreakerOpen(self.name)

    def _refuses(self, now: float) -> bool:
        if self._mode is not AUTOMATIC:
            return self._mode is FORCED_OPEN
        if self._is_shut(now):
            return True
        if self._switch.current_state == CLOSED:
            return False
        if self._switch.current_state == OPEN:
            self._start_counting()
            self._switch.half_open()
        self._permits -= 1
        return False

    def _is_shut(self, now: float) -> bool:
        """Whether the next call is refused; opens when calls under way turn out to hang."""
        state = self._switch.current_state
        if state == OPEN:
            return now < self._tries_again_at
        if self._under_way or self._overdue:
            self._look_for_overdue(now)
            if self._overdue and (why := self._why_open(now)):
                self._open(now, why)
                return True
        return state == HALF_OPEN and self._permits <= 0

    def _look_for_overdue(self, now: float) -> None:
        """Calls that are slow already, before they have ended: hung ones end late or never."""
        since = now - self.thresholds.slow_seconds
        while self._under_way:
            oldest = next(iter(self._under_way))
            if oldest.started_at > since:
                return
            del self._under_way[oldest]
            self._overdue.add(oldest)

    def _ended(self, call: Call, error: object, ignored: bool) -> None:
        with self._mutex:
            now = self._clock()
            call.took_seconds = now - call.started_at
            if call.generation == self._generation:  # a late result says what was, and not what is
                self._under_way.pop(call, None)
                self._overdue.discard(call)
                self._count(call, error, ignored, now)
        if self._changes:
            self._tell()

    def _count(self, call: Call, error: object, ignored: bool, now: float) -> None:
        on_trial = self._switch.current_state == HALF_OPEN
        if ignored:
            self._permits += on_trial
            return
        if error is not None:
            self._row += 1
        else:
            self._row, self._succeeded_at = 0, now
        self._window.add(now, failed=error is not None, slow=call.is_slow)
        if (error is not None or call.is_slow) and (why := self._why_open(now)):
            self._open(now, f"{why}: {error}" if error is not None else why)
        elif on_trial:
            self._permits += 1  # who comes later is not refused because those before were few
            self._successes_missing -= 1
            if self._successes_missing == 0:
                self._close(now)

    def _why_open(self, now: float) -> str:
        """Asked after each failure and each slow call, also one that has not ended. Empty: there is no reason."""
        limits, hanging = self.thresholds, len(self._overdue)
        if self._switch.current_state == HALF_OPEN:
            return "a trial failed"
        hinted = now < self._hinted_until
        is_long = self._row + hanging >= (1 if hinted else limits.failures_in_a_row)
        if is_long and now - self._succeeded_at >= limits.silence_seconds:
            return f"{self._row} failures in a row" if self._row else f"{hanging} calls hang"
        self._window.move_to(now)
        calls = self._window.calls + hanging
        if calls < limits.calls_minimum:
            return ""
        if self._window.failures >= calls * limits.failure_share:
            return f"{self._window.failures} of {calls} calls failed"
        if self._window.slow + hanging >= calls * limits.slow_share:
            return f"{self._window.slow + hanging} of {calls} calls are slow"
        return ""

    # The switch

    def _open(self, now: float, why: str) -> None:
        was_closed = self._switch.current_state == CLOSED
        if was_closed and now - self._closed_at >= self.thresholds.calm_seconds:
            self._openings = 0
        first, longest = _open_times or (self.thresholds.open_seconds, self.thresholds.open_maximum_seconds)
        seconds = min(longest, first * 2**self._openings)
        self._openings = min(self._openings + 1, 30)
        self._tries_again_at = now + seconds * uniform(1 - OPEN_SPREAD, 1 + OPEN_SPREAD)
        self._start_counting()
        self._switch.open()
        if was_closed:
            logger.error("%s fails and is left alone: %s", self.name, why)

    def _close(self, now: float) -> None:
        self._closed_at = now
        self._start_counting()
        self._switch.close()
        logger.warning("%s works again", self.name)

    def _tell(self) -> None:
        """Outside the lock: a listener may take its time, ask this breaker, or break."""
        while self._changes:
            try:
                state = self._changes.pop(0)
            except IndexError:  # somebody else tells it
                return
            self._number.set(STATE_NUMBERS[state])
            for listener in list(_listeners):
                try:
                    listener(self, state)
                except Exception as error:
                    logger.warning("whoever was told of %s broke: %r", self.name, error)


class _Bridge(pybreaker.CircuitBreakerListener):
    """pybreaker speaks under its lock and ours, so that what it says is kept for later."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(self, _switch: pybreaker.CircuitBreaker, _old: Any, new: Any) -> None:
        mode = self._breaker._mode
        self._breaker._changes.append(str(new.name) if mode is AUTOMATIC else mode)


_breakers: "WeakSet[Breaker]" = WeakSet()
_listeners: list[Listener] = []
#: What an operator has said, instead of what each breaker's thresholds say.
_open_times: tuple[float, float] | None = None


def all_of_this_process() -> list[Breaker]:
    """By name."""
    return sorted(_breakers, key=lambda breaker: breaker.name)


def leave_alone(first_seconds: float, longest_seconds: float) -> None:
    """The open time of all breakers of this process, now and later, and the bound up to which it doubles."""
    global _open_times
    Thresholds(open_seconds=first_seconds, open_maximum_seconds=longest_seconds)  # refuses what makes no sense
    _open_times = first_seconds, longest_seconds


def listen(listener: Listener) -> None:
    """Have it told of each change of each breaker of this process, by the thread that caused it. Again, it does
    nothing."""
    if listener not in _listeners:
        _listeners.append(listener)


def stop_listening(listener: Listener) -> None:
    _listeners.remove(listener)


def _start_over_in_a_fork() -> None:
    for breaker in list(_breakers):
        breaker.start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
