"""What networks and servers in trouble do to bytes, and at which moment of a script they do it.

A fault is a value. Of the class Fault it overrides the one answer that it spoils; the proxy asks, the fault decides.
"""

import sys
from dataclasses import dataclass
from enum import Flag, auto
from random import Random
from typing import ClassVar

#: Bytes that never run out.
NO_LIMIT = sys.maxsize


class Direction(Flag):
    """Seen from the client: requests go up to the server, answers come down."""

    UP = auto()
    DOWN = auto()
    BOTH = UP | DOWN


UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.BOTH


@dataclass(frozen=True)
class Fault:
    """The answers of a network where nothing goes wrong."""

    #: Somebody listens at the address.
    listens: ClassVar[bool] = True
    #: Bytes move at all.
    flows: ClassVar[bool] = True

    @property
    def drops(self) -> bool:
        """Connections that exist end as the fault begins."""
        return False

    @property
    def resets(self) -> bool:
        """Where the fault ends a connection, it does so with a reset."""
        return False

    def loses(self, direction: Direction) -> bool:
        return False

    def delay_seconds(self, direction: Direction, random: Random) -> float:
        return 0.0

    def pace(self, direction: Direction) -> tuple[int, float]:
        """Bytes that may leave together, and the seconds from then to the next."""
        return NO_LIMIT, 0.0

    def ends_after(self, direction: Direction) -> int:
        """Bytes that a connection may deliver from now on, before it ends."""
        return NO_LIMIT


@dataclass(frozen=True)
class Pass(Fault):
    """Everything goes through, as if there were no proxy."""


PASS = Pass()


@dataclass(frozen=True)
class Refuse(Fault):
    """Nobody listens: who connects gets ECONNREFUSED. Connections that exist go on, or end, as when a server dies."""

    dropping: bool = False
    listens: ClassVar[bool] = False

    @property
    def drops(self) -> bool:
        return self.dropping


@dataclass(frozen=True)
class NeverRead(Fault):
    """Connections are taken, nothing is read, nothing comes: a frozen server. Healed, it goes on where it stopped."""

    flows: ClassVar[bool] = False


@dataclass(frozen=True)
class Swallow(Fault):
    """Requests are read and vanish, no answer comes: sent, and not carried out."""

    def loses(self, direction: Direction) -> bool:
        return True


@dataclass(frozen=True)
class LoseAnswers(Fault):
    """Requests reach the server, its answers vanish: sent, no answer, but carried out."""

    def loses(self, direction: Direction) -> bool:
        return direction is DOWN


@dataclass(frozen=True)
class Latency(Fault):
    """Bytes arrive so much later, and up to the jitter later still, in their order. The seed is the proxy's."""

    up_ms: float = 0
    down_ms: float = 0
    up_jitter_ms: float = 0
    down_jitter_ms: float = 0

    def delay_seconds(self, direction: Direction, random: Random) -> float:
        up = direction is UP
        delay_ms, jitter_ms = (self.up_ms, self.up_jitter_ms) if up else (self.down_ms, self.down_jitter_ms)
        return (delay_ms + random.uniform(0, jitter_ms)) / 1000


@dataclass(frozen=True)
class Trickle(Fault):
    """A few bytes at a time, with a pause after each piece."""

    piece_bytes: int
    interval_ms: float
    direction: Direction = BOTH

    def __post_init__(self) -> None:
        if self.piece_bytes < 1:
            raise ValueError("a piece of no bytes never gets there; NeverRead does that")

    def pace(self, direction: Direction) -> tuple[int, float]:
        return (self.piece_bytes, self.interval_ms / 1000) if direction in self.direction else (NO_LIMIT, 0.0)


@dataclass(frozen=True)
class Cut(Fault):
    """The connection ends in good order after exactly so many bytes from now on; with 0, as the first one comes."""

    direction: Direction
    after_bytes: int

    def ends_after(self, direction: Direction) -> int:
        return self.after_bytes if direction in self.direction else NO_LIMIT


@dataclass(frozen=True)
class Reset(Fault):
    """The connection breaks (RST) after so many bytes of answers from now on; with 0, as the first one comes.

    A unix socket has no reset: its client reads the end, or ECONNRESET when something it sent was not read.
    """

    after_bytes: int = 0

    @property
    def resets(self) -> bool:
        return True

    def ends_after(self, direction: Direction) -> int:
        return self.after_bytes if direction is DOWN else NO_LIMIT


@dataclass(frozen=True)
class OnlyThere:
    """In a step: strikes only the connection that brought the count there, not the whole proxy."""

    fault: Fault

    def __post_init__(self) -> None:
        if not self.fault.listens:
            raise ValueError("a connection that exists cannot be refused")


#: For At: a connection that was taken.
CONNECTIONS = "connections"

#: What a proxy counts: connections, bytes of one direction as they reach it, requests that contain these bytes.
Counted = str | Direction | bytes


@dataclass(frozen=True)
class At:
    """The moment of the count-th connection, byte or request since the step before, or since the script was given.

    `At(2, CONNECTIONS)`, `At(1_000, UP)`, `At(3, b"EVALSHA")`. Bytes that a client sends together travel together: the
    fault strikes before the portion that reaches the count is passed on. Each occurrence of the bytes is one request.
    """

    count: int
    of: Counted

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("the first is number 1")
        if self.of not in (CONNECTIONS, UP, DOWN) and not (isinstance(self.of, bytes) and self.of):
            raise ValueError(f"nobody counts {self.of!r}: CONNECTIONS, UP, DOWN, or bytes of a request")


Step = tuple[At, Fault | OnlyThere]
