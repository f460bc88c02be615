"""How much of itself a service gives up under load: four levels, and features that say at which of them they go.

    extras = Feature("recommendations", until=Level.NORMAL)
    if extras.is_on(): ...

The level of this process is one attribute, which a thread of its own sets and a request only reads.
"""

from dataclasses import dataclass
from enum import IntEnum


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
