"""One connection through the proxy: two sockets, and the bytes that are between them."""

import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults.faults import DOWN, UP, Direction, Fault
from tests.faults.sockets import end

#: Bytes read at once: more than any request of the shop, so that what was sent together is usually read together.
PORTION_BYTES = 65_536

#: Bytes one direction holds before it stops reading, as a network would: enough for any test of delays.
HELD_BYTES = 1_048_576


@dataclass(eq=False)
class Flow:
    """One direction of a connection: bytes come from the source, wait until they are due, and go to the sink."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    inside: deque[tuple[float, bytes]] = field(default_factory=deque)
    held_bytes: int = 0
    #: Bytes delivered since the fault began.
    delivered: int = 0
    #: Nothing leaves before this moment: the pause of a trickle.
    pause_ends: float = 0.0
    #: The sink took less than it was given, and will say when it takes more.
    blocked: bool = False
    #: The source has sent its last byte.
    ended: bool = False
    #: The sink knows that the source has ended.
    told: bool = False
    #: Bytes were lost: nothing may follow them, because no network leaves holes in a stream.
    holed: bool = False
    #: For each request that is looked for, the bytes in which it may have begun.
    begun: dict[bytes, bytes] = field(default_factory=dict)

    def wants(self, fault: Fault) -> bool:
        return fault.flows and not self.ended and self.held_bytes < HELD_BYTES

    def count(self, request: bytes, portion: bytes) -> int:
        """How many requests with these bytes the portion completes."""
        text = self.begun.get(request, b"") + portion
        self.begun[request] = text[max(0, len(text) - len(request) + 1) :]
        return text.count(request)

    def arrive(self, portion: bytes, due: float) -> None:
        """Keep bytes until they are due and those that came earlier have left."""
        self.inside.append((due, portion))
        self.held_bytes += len(portion)

    def next_at(self, fault: Fault) -> float | None:
        """When something can leave; None if that takes more than time."""
        if not self.inside or self.blocked or not fault.flows:
            return None
        return max(self.inside[0][0], self.pause_ends)

    def begin(self) -> None:
        """A new fault: what waits is due, and counting starts again."""
        self.inside = deque((0.0, portion) for _, portion in self.inside)
        self.delivered, self.pause_ends = 0, 0.0

    def deliver(self, fault: Fault, now: float) -> bool:
        """Send what is due. True when the connection shall end here. Raises OSError when the sink is gone."""
        if self.holed or fault.loses(self.direction):
            self._lose()
            return False
        allowed = fault.ends_after(self.direction)
        while (at := self.next_at(fault)) is not None and at <= now:
            self._send_piece(fault, allowed - self.delivered, now)
            if self.delivered >= allowed:
                return True
        if self.ended and not self.inside and not self.told:
            self.told = True
            with suppress(OSError):  # the sink has gone already, and needs not be told
                self.sink.shutdown(socket.SHUT_WR)
        return False

    def _lose(self) -> None:
        self.holed = self.holed or bool(self.inside)
        self.inside.clear()
        self.held_bytes = 0

    def _send_piece(self, fault: Fault, allowed: int, now: float) -> None:
        piece_bytes, pause_seconds = fault.pace(self.direction)
        due, portion = self.inside.popleft()
        piece = portion[: max(0, min(piece_bytes, allowed))]
        sent = self._send(piece) if piece else 0
        if rest := portion[sent:]:
            self.inside.appendleft((due, rest))
        self.blocked = sent < len(piece)
        self.delivered += sent
        self.held_bytes -= sent
        self.pause_ends = now + pause_seconds if pause_seconds else 0.0

    def _send(self, piece: bytes) -> int:
        try:
            return self.sink.send(piece)
        except BlockingIOError:
            return 0


class Connection:
    """A client and its own way to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.up = Flow(UP, client, server)
        self.down = Flow(DOWN, server, client)
        #: What strikes this connection only.
        self.fault: Fault | None = None
        self.open = True

    @property
    def flows(self) -> tuple[Flow, Flow]:
        return self.up, self.down

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.up.source, self.down.source

    @property
    def holed(self) -> bool:
        return self.up.holed or self.down.holed

    @property
    def over(self) -> bool:
        """Both sides said and heard their last; or the client has gone, and the server cannot be told."""
        return self.up.ended and (self.up.holed or (self.up.told and self.down.ended and not self.down.inside))

    def begin(self, fault: Fault | None) -> None:
        self.fault = fault
        for flow in self.flows:
            flow.begin()

    def next_at(self, fault: Fault) -> float | None:
        return min(_known(flow.next_at(fault) for flow in self.flows), default=None)

    def lose_server(self) -> None:
        """The server has gone and the client must not learn it."""
        self.up.holed = self.down.holed = self.down.ended = True

    def close(self, *, reset: bool) -> None:
        self.open = False
        for sock in self.sockets:
            end(sock, reset=reset)


def _known(moments: Iterable[float | None]) -> list[float]:
    return [moment for moment in moments if moment is not None]
