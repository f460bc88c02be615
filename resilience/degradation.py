"""How much of itself a service gives up under load: four levels, and features that say at which of them they go.

    extras = Feature("recommendations", until=Level.NORMAL)
    if extras.is_on(): ...

The level of this process is one attribute, which a thread of its own sets and a request only reads. That thread calls
`keeper.tick(signs, now)` four times a second. Admission answers a rush within milliseconds; a level changes what a
request costs, for all, so it comes late and stays for a while.
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from resilience.metrics import LEVEL

logger = logging.getLogger(__name__)


class Level(IntEnum):
    """From everything to next to nothing; a higher one gives up all that a lower one does."""

    NORMAL = 0
    #: Extras go, caches keep longer, polls are slower.
    BROWNOUT = 1
    #: The unimportant get a page that asks them to wait.
    SHED = 2
    #: Pages that were rendered at the start, and nothing else.
    STATIC = 3


@dataclass(frozen=True, slots=True)
class Situation:
    """What a request may know of the level. Immutable, exchanged as a whole."""

    level: Level = Level.NORMAL
    #: Why, for staff and logs.
    reason: str = ""
    is_forced: bool = False


class Current:
    """The situation of this process. Reading it is an attribute read."""

    def __init__(self) -> None:
        self.situation = Situation()

    @property
    def level(self) -> Level:
        return self.situation.level


current = Current()


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that is nice to have: on up to and at a level, off beyond it."""

    name: str
    until: Level

    def is_on(self) -> bool:
        return current.situation.level <= self.until


# --- Who decides -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signs:
    """What somebody saw in the last window."""

    #: How long nine of ten requests waited for a place, at most.
    queue_delay_p90_seconds: float = 0.0
    #: Importance -> part of its requests that was refused, 0 to 1.
    refused: Mapping[int, float] = field(default_factory=dict)
    #: Something is left alone whose work others do meanwhile.
    is_strained: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a level is entered; below half of that it is left. Raises ValueError with the name and the range."""

    #: BROWNOUT: requests wait a sixth of what they may take in all.
    brownout_delay_seconds: float = 0.050
    #: BROWNOUT: this part of any importance is refused; less is a hiccup.
    brownout_refused: float = 0.05
    #: SHED: this part of the important is refused, so hardly anybody else gets in: they need not even be measured.
    #: Half of the unimportant, as others have it, would be left out at twice the capacity, when a third of them fits.
    shed_refused: float = 0.05
    #: Importance from which on a request is important.
    important_from: int = 2
    #: Windows in a row that must ask for a level, or for more.
    windows: int = 2
    #: Between two changes at least, and calm for so long before a level is left, plus a part that each process draws
    #: for itself, so that all do not come back at the same moment.
    hold_seconds: float = 10.0
    spread_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} must be from {least} to {most}, not {value!r}")


#: Least and most of each threshold.
_RANGES: dict[str, tuple[float, float]] = {
    "brownout_delay_seconds": (0.001, 10.0),
    "brownout_refused": (0.001, 1.0),
    "shed_refused": (0.001, 1.0),
    "important_from": (0, 9),
    "windows": (1, 100),
    "hold_seconds": (1.0, 3_600.0),
    "spread_seconds": (0.0, 3_600.0),
}


@dataclass(frozen=True, slots=True)
class Forced:
    """What somebody wants, whatever the signs say, until a moment of the clock that ticks are told."""

    level: Level
    reason: str
    until: float = float("inf")


#: Called after a change with the situation before and the one that is.
Listener = Callable[[Situation, Situation], object]


class Keeper:
    """Keeps `current` at the level that fits. By itself it goes up to SHED: at STATIC nobody is served, which is worse
    than any load, because admission serves as many as there is room for. That one is for people."""

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        *,
        keeps: Current = current,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._thresholds = thresholds or Thresholds()
        self._keeps = keeps
        self._draw = draw
        self.listeners: list[Listener] = []
        self._automatic = Situation()
        self._asked: list[tuple[Level, str]] = []
        self._changed_at = self._calm_since = float("-inf")
        self._rest_seconds = self._drawn()
        LEVEL.set(keeps.level)

    def tick(self, signs: Signs, now: float, forced: Forced | None = None) -> None:
        """Decide, by a clock that never goes back. Raises nothing: the level stays, and the log says why."""
        try:
            self._follow(signs, now)
            if forced is not None and now < forced.until:
                self._become(Situation(forced.level, forced.reason, is_forced=True))
            else:
                self._become(self._automatic)
        except Exception:
            logger.exception("the level stays at %s: it could not be decided", self._keeps.level.name)

    def _follow(self, signs: Signs, now: float) -> None:
        """The level that the signs ask for, also while another one is forced: it is there when that ends."""
        level = self._automatic.level
        self._asked = [*self._asked, self._wanted(signs, 1.0)][-self._thresholds.windows :]
        wanted, why = min(self._asked)  # all windows ask for it, or for more
        if self._wanted(signs, 0.5)[0] >= level:
            self._calm_since = now
        if now - self._changed_at < self._thresholds.hold_seconds:
            return
        if wanted > level and len(self._asked) == self._thresholds.windows:
            self._move(wanted, why, now)
        elif level > Level.NORMAL and now - self._calm_since >= self._rest_seconds:
            self._move(Level(level - 1), f"calm for {self._rest_seconds:.0f} s", now)

    def _wanted(self, signs: Signs, scale: float) -> tuple[Level, str]:
        """The level that one window asks for, and why; with every threshold times `scale`."""
        at = self._thresholds
        important = max((part for each, part in signs.refused.items() if each >= at.important_from), default=0.0)
        anybody = max(signs.refused.values(), default=0.0)
        delay = signs.queue_delay_p90_seconds
        if important >= at.shed_refused * scale:
            return Level.SHED, f"{important:.0%} of the important are refused"
        if anybody >= at.brownout_refused * scale:
            return Level.BROWNOUT, f"{anybody:.0%} of the unimportant are refused"
        if delay >= at.brownout_delay_seconds * scale:
            return Level.BROWNOUT, f"requests wait {delay * 1000:.0f} ms"
        if signs.is_strained:
            return Level.BROWNOUT, "others do the work of a dependency that is left alone"
        return Level.NORMAL, "all is well"

    def _move(self, level: Level, why: str, now: float) -> None:
        self._automatic = Situation(level, why)
        self._changed_at = self._calm_since = now
        self._rest_seconds = self._drawn()

    def _drawn(self) -> float:
        return self._thresholds.hold_seconds + self._draw(0.0, self._thresholds.spread_seconds)

    def _become(self, new: Situation) -> None:
        old = self._keeps.situation
        if new == old:
            return
        self._keeps.situation = new
        LEVEL.set(new.level)
        for listener in list(self.listeners):
            self._tell(listener, old, new)

    @staticmethod
    def _tell(listener: Listener, *change: Any) -> None:
        try:
            listener(*change)
        except Exception:
            logger.exception("a listener did not take a change of the level")
