"""A proxy before a real server, which does to connections what networks and dying servers do: now, or by script.

    with FaultProxy("/run/redis.sock", script=[(At(3, b"EVALSHA"), OnlyThere(LoseAnswers()))]) as proxy:
        client = redis.Redis(unix_socket_path=proxy.address)  # the third script is carried out, and nobody hears of it
        proxy.fault = Latency(down_ms=20, down_jitter_ms=5)   # from now on, for connections new and old
        proxy.heal()

One thread does all the work. What the test asks of the proxy is done by that thread, between two events, before the
question returns: no byte is under way that follows the old fault.
"""

import selectors
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random, SystemRandom
from types import TracebackType
from typing import Self, TypeVar

from tests.faults.faults import CONNECTIONS, DOWN, PASS, UP, At, Counted, Fault, OnlyThere, Step
from tests.faults.flow import PORTION_BYTES, Connection, Flow
from tests.faults.sockets import Address, bound, connecting, local, shown, unhindered

Answer = TypeVar("Answer")

#: Seconds the proxy's thread may take to answer or to end. It never blocks, so this only ends a test that is broken.
DEADLINE_SECONDS = 5.0

#: Connections that wait to be taken: more than any test opens at once.
BACKLOG = 1_024

#: Seeds are short enough to be typed again.
SEEDS = 1_000_000


class FaultProxy:
    """Between clients and one server. With `counting`, requests that contain these bytes are counted.

    Without `listen` it takes a free address of the server's kind. Only unix sockets and loopback addresses are served.
    """

    def __init__(
        self,
        upstream: Address | Path,
        *,
        listen: Address | Path | None = None,
        script: Iterable[Step] = (),
        counting: Iterable[bytes] = (),
        seed: int | None = None,
    ) -> None:
        self.upstream = local(upstream)
        self.seed = SystemRandom().randrange(SEEDS) if seed is None else seed
        self._listen = None if listen is None else local(listen)
        self._random = Random(self.seed)
        self._fault: Fault = PASS
        self._tally: Counter[Counted] = Counter()
        self._looked_for = set(counting)
        self._take_script(list(script))
        self._connections: set[Connection] = set()
        self._waiting: set[Connection] = set()
        self._questions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._running = False
        self._error: Exception | None = None

    def __repr__(self) -> str:
        here = shown(self.address) if self._running else "closed"
        return f"<FaultProxy {here} -> {shown(self.upstream)} {self._fault} seed={self.seed}>"

    # Opening and closing

    def __enter__(self) -> Self:
        """Raises OSError when the address is taken."""
        self._folder = tempfile.TemporaryDirectory(prefix="fault-proxy-")
        self.address: Address = self._listen or self._free_address()
        try:
            self._open_door()
        except OSError:
            self._folder.cleanup()
            raise
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ, self._answer_questions)
        self._selector.register(self._door, selectors.EVENT_READ, self._take_connection)
        self._running = True
        self._thread.start()
        return self

    def _free_address(self) -> Address:
        return f"{self._folder.name}/socket" if isinstance(self.upstream, str) else (self.upstream[0], 0)

    def _open_door(self) -> None:
        if isinstance(self.address, str) and Path(self.address).exists():
            raise FileExistsError(f"{self.address} belongs to somebody")
        self._door = bound(self.address)
        self._door.listen(BACKLOG)
        if isinstance(self.address, tuple):
            self.address = self._door.getsockname()[:2]  # the port, if any was asked for

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Connections end, the address is free, the thread is gone. Raises what broke the proxy, if anything did."""
        with suppress(RuntimeError, OSError):  # it broke, and has ended already
            self._ask(self._stop)
        self._thread.join(DEADLINE_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError(f"{self!r} did not end within {DEADLINE_SECONDS} s")
        if self._error:
            raise self._error

    def _stop(self) -> None:
        self._running = False

    # What a test may say

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        """For connections new and old, those that were struck alone too. Bytes on their way under the old are due."""
        self._ask(partial(self._switch, fault))

    def heal(self) -> None:
        """Everything passes; what was held back arrives. Connections that lost bytes are reset. The script goes on."""
        self.fault = PASS

    def drop_connections(self, *, reset: bool = False) -> None:
        """End those that exist, on both sides. New ones are welcome."""
        self._ask(partial(self._drop_all, reset=reset))

    @property
    def script(self) -> list[Step]:
        """The steps that have not struck yet; only the first is waited for, and counts from the one before."""
        return list(self._script)

    @script.setter
    def script(self, steps: Iterable[Step]) -> None:
        self._ask(partial(self._take_script, list(steps)))

    # What a test may know, also afterwards

    @property
    def connections(self) -> int:
        """Taken since the start."""
        return self._counted(CONNECTIONS)

    @property
    def open_connections(self) -> int:
        return self._ask(lambda: len(self._connections)) if self._running else 0

    @property
    def bytes_up(self) -> int:
        """Came from clients, whatever became of them."""
        return self._counted(UP)

    @property
    def bytes_down(self) -> int:
        """Came from the server, whatever became of them."""
        return self._counted(DOWN)

    def requests(self, containing: bytes) -> int:
        """Came from clients. Raises LookupError for bytes that neither `counting` nor a script names."""
        if containing not in self._looked_for:
            raise LookupError(f"{containing!r} is not counted: FaultProxy(..., counting=[{containing!r}])")
        return self._counted(containing)

    def _counted(self, what: Counted) -> int:
        return self._ask(lambda: self._tally[what]) if self._running else self._tally[what]

    def _ask(self, work: Callable[[], Answer]) -> Answer:
        """What the work returns, done by the proxy's thread. Raises RuntimeError when the proxy is not open."""
        if not self._running:
            raise RuntimeError(f"{self!r} is not open") from self._error
        answer: Future[Answer] = Future()
        self._questions.put(partial(_settle, answer, work))
        self._bell.send(b"?")
        return answer.result(DEADLINE_SECONDS)

    # The thread

    def _run(self) -> None:
        try:
            while self._running:
                for key, _ in self._selector.select(self._seconds_to_next()):
                    key.data()
                self._deliver_what_is_due()
        except Exception as error:
            self._error = error
        finally:
            self._running = False
            self._leave_nothing()

    def _seconds_to_next(self) -> float | None:
        moments = [at for c in self._waiting if (at := c.next_at(self._fault_of(c))) is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _deliver_what_is_due(self) -> None:
        for connection in list(self._waiting):
            self._tend(connection)

    def _answer_questions(self) -> None:
        self._ear.recv(PORTION_BYTES)
        with suppress(Empty):
            while self._running:
                self._questions.get_nowait()()

    def _leave_nothing(self) -> None:
        self._drop_all(reset=False)
        for thing in (self._door, self._ear, self._bell, self._selector):
            thing.close()
        if isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)
        self._folder.cleanup()

    # The life of a connection

    def _take_connection(self) -> None:
        if not self._fault.listens:
            return  # the same round of events brought the fault
        try:
            client, _ = self._door.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has changed its mind
        unhindered(client)
        connection = Connection(client, connecting(self.upstream))
        self._connections.add(connection)
        self._tally[CONNECTIONS] += 1
        self._follow_script(connection)
        self._tend(connection)

    def _serve(self, connection: Connection, flow: Flow, back: Flow) -> None:
        """Something happened at the source of the flow, which is also where the flow back ends."""
        back.blocked = False
        if connection.open and flow.wants(self._fault_of(connection)):
            self._read(connection, flow)
        self._tend(connection)

    def _read(self, connection: Connection, flow: Flow) -> None:
        try:
            portion = flow.source.recv(PORTION_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._break(connection, server=flow is connection.down)
            return
        flow.ended = not portion
        self._count(connection, flow, portion)
        delay = self._fault_of(connection).delay_seconds(flow.direction, self._random)
        if portion:
            flow.arrive(portion, time.monotonic() + delay if delay else 0.0)

    def _count(self, connection: Connection, flow: Flow, portion: bytes) -> None:
        self._tally[flow.direction] += len(portion)
        if flow is connection.up:
            for request in self._looked_for:
                self._tally[request] += flow.count(request, portion)
        self._follow_script(connection)

    def _tend(self, connection: Connection) -> None:
        """Deliver what is due, and wait for what can come next. Does nothing for a connection that has ended."""
        if not connection.open:
            return
        fault = self._fault_of(connection)
        for flow in connection.flows:
            self._deliver(connection, flow, fault)
        if connection.open and (connection.over or (connection.up.ended and fault.loses(UP))):
            self._drop(connection, reset=False)
        if connection.open:
            self._wait_for(connection, fault)

    def _deliver(self, connection: Connection, flow: Flow, fault: Fault) -> None:
        try:
            if connection.open and flow.deliver(fault, time.monotonic()):
                self._drop(connection, reset=fault.resets)
        except OSError:
            self._break(connection, server=flow is connection.up)

    def _wait_for(self, connection: Connection, fault: Fault) -> None:
        for flow, back in (connection.flows, connection.flows[::-1]):
            reading = selectors.EVENT_READ if flow.wants(fault) else 0
            writing = selectors.EVENT_WRITE if back.blocked else 0
            self._watch(flow.source, reading | writing, partial(self._serve, connection, flow, back))
        if connection.next_at(fault) is None:
            self._waiting.discard(connection)
        else:
            self._waiting.add(connection)

    def _watch(self, sock: socket.socket, events: int, then: Callable[[], None]) -> None:
        watched = self._selector.get_map().get(sock)
        if watched is None and events:
            self._selector.register(sock, events, then)
        elif watched is not None and not events:
            self._selector.unregister(sock)
        elif watched is not None and watched.events != events:
            self._selector.modify(sock, events, then)

    def _break(self, connection: Connection, *, server: bool) -> None:
        """One side has gone without a word. The other is reset, unless the fault keeps it from learning that."""
        if server and (connection.down.holed or self._fault_of(connection).loses(DOWN)):
            connection.lose_server()
        else:
            self._drop(connection, reset=True)

    def _drop(self, connection: Connection, *, reset: bool) -> None:
        for sock in connection.sockets:
            self._watch(sock, 0, self._stop)
        self._connections.discard(connection)
        self._waiting.discard(connection)
        connection.close(reset=reset)

    def _drop_all(self, *, reset: bool) -> None:
        for connection in list(self._connections):
            self._drop(connection, reset=reset)

    # Faults and the script

    def _fault_of(self, connection: Connection) -> Fault:
        return connection.fault or self._fault

    def _switch(self, fault: Fault) -> None:
        if self._fault.listens and not fault.listens:
            self._refuse()
        if fault.listens and not self._fault.listens:
            self._listen_again()
        self._fault = fault
        if fault.drops:
            self._drop_all(reset=False)
        for connection in list(self._connections):
            if fault == PASS and connection.holed:
                self._drop(connection, reset=True)
            connection.begin(None)
            self._tend(connection)

    def _refuse(self) -> None:
        """A bound socket that does not listen refuses, and keeps the port from others."""
        self._selector.unregister(self._door)
        self._door.close()
        self._door = bound(self.address)

    def _listen_again(self) -> None:
        self._door.listen(BACKLOG)
        self._selector.register(self._door, selectors.EVENT_READ, self._take_connection)

    def _take_script(self, steps: list[Step]) -> None:
        self._script = steps
        self._looked_for |= {at.of for at, _ in steps if isinstance(at.of, bytes)}
        self._since = Counter(self._tally)

    def _follow_script(self, connection: Connection) -> None:
        """Strike with each step whose moment has come; what one did not need counts for the next."""
        while self._script and self._has_come(self._script[0][0]):
            at, fault = self._script.pop(0)
            reached = self._since[at.of] + at.count
            self._since = Counter(self._tally)
            self._since[at.of] = reached
            if isinstance(fault, OnlyThere):
                connection.begin(fault.fault)
            else:
                self._switch(fault)

    def _has_come(self, at: At) -> bool:
        return self._tally[at.of] - self._since[at.of] >= at.count


def _settle(answer: Future[Answer], work: Callable[[], Answer]) -> None:
    try:
        answer.set_result(work())
    except Exception as error:
        answer.set_exception(error)
