"""A client of the open model: it sends at the moments of its schedule, whatever has become of earlier requests.

People who come to a sale do not know of each other: a slow server does not make fewer of them come. A client that
waits for answers before it asks again (the closed model, as most load tests have) spares exactly the server that it
should try: asked for twice of what a server can, it sends as much as the server can, and reports no failures.

Arrivals are random (Poisson, from a seed). A latency counts from the moment at which the request *was to be* sent, so
that nothing is left out while the client itself is held up; how late it was is measured and told.

Written for speed where it sends and reads: one thread, raw sockets, bytes made beforehand. A load of JSON comes in, a
report of JSON goes out (load.py).
"""

import errno
import gc
import json
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import accumulate, cycle
from random import Random

from loadtests.contenders.overload.load import Load, load_of
from loadtests.contenders.overload.processors import many_connections, stay_on
from loadtests.contenders.overload.tally import Tally

#: Seconds after which somebody who waits gives up.
PATIENCE_SECONDS = 2.0
#: Seconds from the making of the schedule to its first request.
RUN_UP_SECONDS = 0.1
#: Seconds without a look at what is late, while nothing else happens.
LOOK_SECONDS = 0.05
#: Bytes of an answer that are read at once: more than a page has.
PORTION_BYTES = 65_536

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
#: A socket on its way to the server cannot send yet: Linux says the first, macOS the second.
NOT_YET = {errno.EAGAIN, errno.ENOTCONN}

clock = time.perf_counter


class Request:
    """One of the schedule. `at` is when it was to be sent."""

    __slots__ = ("at", "content", "importance", "is_over", "stage")

    def __init__(self, at: float, stage: int, importance: int, content: bytes) -> None:
        self.at = at
        self.stage = stage
        self.importance = importance
        self.content = content
        self.is_over = False


class Connection:
    """To the server, kept for the next request; with what has come of the answer to this one."""

    __slots__ = ("came", "request", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.request: Request | None = None
        self.came = b""


def arrivals(load: Load, begin: float) -> Iterator[Request]:
    """All requests in order; the gaps of a stage are exponential, the kinds drawn by their shares."""
    random = Random(load.seed)
    bounds = list(accumulate(kind.share for kind in load.kinds))
    contents = [(kind.importance, cycle([text.encode("latin-1") for text in kind.requests])) for kind in load.kinds]
    for number, stage in enumerate(load.stages):
        end, at = begin + stage.seconds, begin
        while (at := at + random.expovariate(stage.rate)) < end:
            [(importance, content)] = random.choices(contents, cum_weights=bounds)
            yield Request(at, number, importance, next(content))
        begin = end


class Client:
    def __init__(self, load: Load) -> None:
        self._port = load.port
        self._connections_maximum = load.connections_maximum
        self._connections = 0
        self._idle: list[Connection] = []
        self._selector = selectors.DefaultSelector()
        #: Sent, in that order, with the connection; those that are over are passed by.
        self._under_way: deque[tuple[Request, Connection]] = deque()
        #: Due, and all connections are taken.
        self._waiting: deque[Request] = deque()
        self.tally = Tally(load)

    def send_all(self, requests: deque[Request]) -> None:
        """Returns when each has been answered or given up."""
        while requests or self._under_way or self._waiting:
            now = clock()
            while requests and requests[0].at <= now:
                self._begin(requests.popleft(), now)
            self._give_up(now)
            pause = min(LOOK_SECONDS, max(0.0, requests[0].at - clock())) if requests else LOOK_SECONDS
            self._hear(pause)

    def keep_asking(self, requests: Iterator[Request], clients: int, until: float) -> None:
        """The closed model: so many ask, and ask again when they have their answer."""
        while (now := clock()) < until or self._under_way:
            while now < until and self._connections - len(self._idle) < clients:
                request = next(requests)
                request.at = now
                self._begin(request, now)
            self._give_up(now)
            self._hear(LOOK_SECONDS)

    # --- sending

    def _begin(self, request: Request, now: float) -> None:
        self.tally.begun(request, now - request.at)
        if self._idle:
            self._send(self._idle.pop(), request)
        elif self._connections < self._connections_maximum:
            self._send(self._connect(), request)
        else:
            self._waiting.append(request)

    def _connect(self) -> Connection:
        connection = Connection(self._port)
        self._connections += 1
        self._selector.register(connection.socket, READ, connection)
        return connection

    def _send(self, connection: Connection, request: Request) -> None:
        connection.request = request
        self._under_way.append((request, connection))
        self._write(connection, request)

    def _write(self, connection: Connection, request: Request) -> None:
        try:
            connection.socket.send(request.content)
        except OSError as error:
            if error.errno in NOT_YET:
                self._selector.modify(connection.socket, READ | WRITE, connection)
            else:
                self._break(connection)

    # --- hearing

    def _hear(self, seconds: float) -> None:
        for key, what in self._selector.select(seconds):
            connection = key.data
            if what & WRITE:
                self._selector.modify(connection.socket, READ, connection)
                if connection.request:
                    self._write(connection, connection.request)
            if what & READ and connection.socket.fileno() >= 0:  # it may just have broken
                self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            came = connection.socket.recv(PORTION_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            self._break(connection)
            return
        connection.came += came
        if is_whole(connection.came):
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        answer, request = connection.came, connection.request
        connection.came, connection.request = b"", None
        if request is None:
            self._close(connection)  # an answer to nothing
            return
        request.is_over = True
        self.tally.answered(request, int(answer[9:12]), clock() - request.at)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    # --- giving up

    def _give_up(self, now: float) -> None:
        too_old = now - PATIENCE_SECONDS
        under_way, waiting = self._under_way, self._waiting
        while under_way and (under_way[0][0].is_over or under_way[0][0].at < too_old):
            request, connection = under_way.popleft()
            if not request.is_over:
                self._break(connection)
        while waiting and waiting[0].at < too_old:
            self.tally.lost(waiting.popleft())

    def _break(self, connection: Connection) -> None:
        """The connection is of no use any more, and whoever waited at it has lost."""
        if request := connection.request:
            request.is_over = True
            self.tally.lost(request)
        else:
            with suppress(ValueError):
                self._idle.remove(connection)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.request = None
        self._connections -= 1


def is_whole(answer: bytes) -> bool:
    """The head and as many bytes as it says, or all chunks, have come."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[:end].lower()
    length_at = head.find(b"\r\ncontent-length:")
    if length_at >= 0:
        digits = head[length_at + 17 :].partition(b"\r\n")[0]
        return len(answer) >= end + 4 + int(digits)
    return b"\r\ntransfer-encoding:" not in head or answer.endswith(b"0\r\n\r\n")


def run(load: Load) -> Tally:
    client = Client(load)
    gc.disable()  # a collection among a million requests would be a pause that looks like the server's
    if load.closed:
        begin = clock()
        client.keep_asking(_endless(load, begin), load.closed, begin + sum(stage.seconds for stage in load.stages))
    else:
        requests = deque(arrivals(load, 0.0))
        begin = clock() + RUN_UP_SECONDS
        for request in requests:
            request.at += begin
        client.send_all(requests)
    return client.tally


def _endless(load: Load, begin: float) -> Iterator[Request]:
    """Kinds as drawn, one after the other, for as long as somebody asks."""
    while True:
        yield from arrivals(load, begin)


def main() -> None:
    load = load_of(json.load(sys.stdin))
    pinned = stay_on(load.processor)
    many_connections()
    json.dump(asdict(run(load).report(pinned)), sys.stdout)


if __name__ == "__main__":
    main()
