"""The thread of each process that finds out the level: what staff say, else what the queue at the door shows.

An open breaker is no reason for a level: its dependency's features are gone, and no others. Stock Redis is the one
exception, because whoever polls for a reservation then asks PostgreSQL: BROWNOUT, and never more, for pages and orders
work.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from weakref import WeakSet

from django.conf import settings

from resilience import breaker
from resilience.breaker import Breaker
from resilience.clock import now_ms
from resilience.degradation import Forced, Keeper, Level, Signs, Situation
from resilience.queue_figures import Figures
from resilience.quiet_logging import QuietLogger
from shop import audit, overrides, sale_events
from shop.levels import INFO_LINES
from shop.models import Override

#: Seconds between two looks, so that an order of staff is obeyed within one.
TICK_SECONDS = 0.25
#: Requests of one importance in a window below which a refusal is chance.
ARRIVED_MINIMUM = 20
#: Breakers whose dependency others stand in for.
STOOD_IN_FOR = {"stock Redis"}
#: What LEVEL says when nobody breaks the glass.
AUTOMATIC = "auto"

logger = logging.getLogger(__name__)


class Watch:
    """Looks what staff say and how the queue is, four times a second, and has it done in this process."""

    def __init__(self, figures: Callable[[float], Figures] | None = None) -> None:
        """`figures` tells of the last seconds at the door; a process without a door has none."""
        self._figures = figures
        self._hearing = overrides.Hearing()
        self._keeper = Keeper()
        self._keeper.listeners += [_write_down, _log_less]
        self._ordered: WeakSet[Breaker] = WeakSet()
        self._always_told = frozenset(settings.LOG_IN_DETAIL)

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(TICK_SECONDS):
            try:
                self.tick(time.monotonic())
            except Exception:
                logger.exception("a look at the level failed, it stays as it is")

    def tick(self, now: float) -> None:
        said = self._hearing.look()
        self._keeper.tick(self._signs(), now, _forced(overrides.of_kind(said, Override.Kind.LEVEL), now))
        self._order_breakers(overrides.of_kind(said, Override.Kind.BREAKER))
        self._tell_in_full(overrides.of_kind(said, Override.Kind.LOG))

    def _signs(self) -> Signs:
        names = {each.name for each in breaker.all_of_this_process() if each.state == breaker.OPEN}
        is_strained = not STOOD_IN_FOR.isdisjoint(names)
        if self._figures is None:
            return Signs(is_strained=is_strained)
        window = self._figures(TICK_SECONDS)
        refused = {
            importance: window.share_refused(importance)
            for importance, arrived in enumerate(window.arrived)
            if arrived >= ARRIVED_MINIMUM
        }
        return Signs(window.queue_delay_p90_seconds, refused, is_strained)

    def _order_breakers(self, said: dict[str, overrides.Said]) -> None:
        for each in breaker.all_of_this_process():
            order = said.get(each.name)
            if order is not None:
                (each.force_open if order.value == overrides.OPEN else each.bypass)()
                self._ordered.add(each)
            elif each in self._ordered:
                each.automatic()
                self._ordered.discard(each)

    def _tell_in_full(self, names: Iterable[str]) -> None:
        gate, wanted = QuietLogger.gate, self._always_told.union(names)
        if gate is not None and gate.watched != wanted:
            gate.watched = wanted


def _forced(said: dict[str, overrides.Said], now: float) -> Forced | None:
    """What the environment says, else what staff do."""
    if settings.LEVEL != AUTOMATIC:
        return Forced(Level[settings.LEVEL], "LEVEL is set in the environment")
    order = said.get("")
    if order is None or order.value not in Level.__members__:
        return None
    return Forced(Level[order.value], order.reason, until=now + (order.ends_at_ms - now_ms()) / 1000)


def _write_down(old: Situation, new: Situation) -> None:
    forced = "forced: " if new.is_forced else ""
    why = f"{forced}{new.reason or 'as at the start'}"
    audit.of_level(old.level.name, new.level.name, why)
    if new.level != old.level:
        sale_events.scribe.note("level", new.level.name, f"after {old.level.name}: {why}")


def _log_less(_old: Situation, _new: Situation) -> None:
    wanted = logging.getLevelNamesMapping()[settings.LOG_LEVEL]
    logging.root.setLevel(wanted if INFO_LINES.is_on() else max(wanted, logging.WARNING))


_thread: threading.Thread | None = None
_ended = threading.Event()


def start(figures: Callable[[float], Figures] | None = None) -> None:
    """Watch the level of this process, from a thread of its own. Again, it does nothing."""
    global _thread
    if _thread is None:
        sale_events.scribe.start()
        _thread = threading.Thread(target=Watch(figures).run, args=[_ended], name="levels", daemon=True)
        _thread.start()


def _start_over_in_a_fork() -> None:
    """The parent's thread is not here. Whoever wants one starts it."""
    global _thread, _ended
    _thread, _ended = None, threading.Event()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
