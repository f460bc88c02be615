"""The proxy that the tests of every fault stand on does what it says, to an echo server and to a real Redis."""

import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shop.local.servers import Running
from tests.crowd import at_once, eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import (
    BOTH,
    CONNECTIONS,
    DOWN,
    PASS,
    UP,
    At,
    Cut,
    Direction,
    Fault,
    Latency,
    LoseAnswers,
    NeverRead,
    OnlyThere,
    Refuse,
    Reset,
    Swallow,
    Trickle,
)
from tests.faults.flow import HELD_BYTES
from tests.faults.sockets import Address, end

#: Seconds a client waits for an answer that must come.
PATIENT = 5.0
#: Seconds a client waits for an answer that must not come, after the proxy is known to have had it.
IMPATIENT = 0.05
#: Seconds between two looks of the echo server whether it shall end.
ECHO_POLL_SECONDS = 0.005
#: More than the socket buffers of both sides and the proxy hold together.
TOO_MUCH = HELD_BYTES * 16


class Echo(socketserver.ThreadingTCPServer):
    """A server that says back what it hears, and remembers all of it. It ends when its last client has."""

    request_queue_size = 1_024

    def __init__(self, address: Address) -> None:
        self.address_family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        super().__init__(address, EchoHandler)  # type: ignore[arg-type]  # typeshed knows no unix sockets here
        self.address: Address = self.socket.getsockname()
        self.heard: list[bytes] = []
        self.resets = 0


class EchoHandler(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        try:
            while portion := self.request.recv(65_536):
                self.server.heard.append(portion)
                self.request.sendall(portion)
        except ConnectionError:
            self.server.resets += 1


def connect(address: Address, seconds: float = PATIENT) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(seconds)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def read_all(client: socket.socket) -> bytes:
    """Everything until the end."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


def ask(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    return b"".join(client.recv(1) for _ in question)


def send_and_be_answered(proxy: FaultProxy, client: socket.socket, question: bytes) -> None:
    """The answer has reached the proxy, whatever becomes of it there."""
    before = proxy.bytes_down
    client.sendall(question)
    assert eventually(lambda: proxy.bytes_down == before + len(question))


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(IMPATIENT)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENT)
    return False


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture(autouse=True)
def clean_servers() -> None:
    """Nothing here is left on the servers of the run but one list, which its test removes."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its path is short enough for a unix socket, which pytest's own is not everywhere."""
    with tempfile.TemporaryDirectory(prefix="echo-") as folder:
        yield Path(folder)


@pytest.fixture(params=["unix", "tcp"])
def echo(request: pytest.FixtureRequest, folder: Path) -> Iterator[Echo]:
    with Echo(str(folder / "echo") if request.param == "unix" else ("127.0.0.1", 0)) as echo:
        thread = threading.Thread(target=echo.serve_forever, args=(ECHO_POLL_SECONDS,))
        thread.start()
        yield echo
        echo.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.address, seed=7) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection that exists before the fault does."""
    with connect(proxy.address) as client:
        assert ask(client, b"hello") == b"hello"
        yield client


# Nothing wrong


def test_everything_passes(proxy: FaultProxy, client: socket.socket) -> None:
    """More than all buffers hold goes up and comes back unchanged, the end too, and every byte is counted."""
    sent = bytes(range(256)) * (TOO_MUCH // 256)

    def send() -> None:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = read_all(client)
    sender.join()

    assert received == sent
    assert (proxy.connections, proxy.bytes_up, proxy.bytes_down) == (1, 5 + TOO_MUCH, 5 + TOO_MUCH)
    assert eventually(lambda: proxy.open_connections == 0)


def test_two_hundred_connections_at_once(proxy: FaultProxy) -> None:
    """Each hears its own words, with delays that differ."""
    proxy.fault = Latency(up_ms=1, down_jitter_ms=20)

    def talk(number: int) -> list[bytes]:
        with connect(proxy.address) as client:
            return [ask(client, b"%d says %d." % (number, turn)) for turn in range(3)]

    answers = at_once(range(200), talk)

    assert answers == [[b"%d says %d." % (number, turn) for turn in range(3)] for number in range(200)]
    assert proxy.connections == 200
    assert eventually(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("echo", ["tcp"], indirect=True)
def test_a_reset_passes_too(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """A client that breaks off is a client that breaks off for the server as well."""
    end(client, reset=True)

    assert eventually(lambda: echo.resets == 1)


def test_no_server_is_a_reset() -> None:
    """A client of a server that is not there learns it at once, and the proxy lives on."""
    with FaultProxy(("127.0.0.1", 1)) as proxy:
        with pytest.raises(ConnectionError), connect(proxy.address) as client:  # during the one or the other
            client.recv(1)

        assert eventually(lambda: proxy.open_connections == 0)


# Faults, for connections new and old


def test_refuse(proxy: FaultProxy, client: socket.socket) -> None:
    """New connections get ECONNREFUSED, the old one talks on; healed, the same address is served again."""
    proxy.fault = Refuse()

    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy.address)
    assert ask(client, b"still here") == b"still here"

    proxy.heal()
    with connect(proxy.address) as again:
        assert ask(again, b"back") == b"back"


def test_refuse_as_a_server_that_died(proxy: FaultProxy, client: socket.socket) -> None:
    """Told so, the old connections end as well."""
    proxy.fault = Refuse(dropping=True)

    assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.address)


def test_never_read(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """Clients old and new can connect and send until the buffers are full; healed, everything arrives."""
    proxy.fault = NeverRead()

    with connect(proxy.address) as new:
        new.sendall(b"anybody?")
        assert hears_nothing(new)
        client.settimeout(IMPATIENT)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * TOO_MUCH)
        assert proxy.bytes_up == len(b"hello")
        assert echo.heard == [b"hello"]

        proxy.heal()
        assert new.recv(100) == b"anybody?"


def test_swallow(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """The request vanishes: read, never carried out, never answered."""
    proxy.fault = Swallow()

    client.sendall(b"buy")

    assert eventually(lambda: proxy.bytes_up == len(b"hellobuy"))
    assert hears_nothing(client)
    assert echo.heard == [b"hello"]


def test_a_client_that_gives_up_is_forgotten(proxy: FaultProxy, client: socket.socket) -> None:
    """A connection that swallows ends when its client does, with or without a request."""
    with connect(proxy.address):
        proxy.fault = Swallow()
        client.sendall(b"buy")

    client.close()

    assert eventually(lambda: proxy.open_connections == 0)


def test_lose_answers(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """The important one: the request is carried out, and its client never hears of it."""
    proxy.fault = LoseAnswers()

    send_and_be_answered(proxy, client, b"buy")

    assert echo.heard == [b"hello", b"buy"]
    assert hears_nothing(client)


def test_a_lost_answer_is_no_hole(proxy: FaultProxy, client: socket.socket) -> None:
    """No later answer takes the place of a lost one: another fault loses it too, healing resets the connection."""
    proxy.fault = LoseAnswers()
    send_and_be_answered(proxy, client, b"first")

    proxy.fault = Latency(down_ms=1)
    send_and_be_answered(proxy, client, b"second")
    assert hears_nothing(client)

    proxy.heal()
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_a_dying_server_is_lost_too() -> None:
    """A client whose answers are lost does not learn either that the server has gone, until it heals."""
    door = socket.create_server(("127.0.0.1", 0))
    with door, FaultProxy(door.getsockname()) as proxy, connect(proxy.address) as client:
        server, _ = door.accept()
        proxy.fault = LoseAnswers()

        end(server, reset=True)
        client.sendall(b"anybody?")
        assert eventually(lambda: proxy.bytes_up == len(b"anybody?"))
        assert hears_nothing(client)

        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("fault", [Latency(up_ms=40), Latency(down_ms=30, down_jitter_ms=20)])
def test_latency(proxy: FaultProxy, client: socket.socket, fault: Latency) -> None:
    """Answers are late, in either direction."""
    proxy.fault = fault
    began = time.monotonic()

    assert ask(client, b"late?") == b"late?"

    assert (time.monotonic() - began) * 1000 >= fault.up_ms + fault.down_ms


def test_what_is_delayed_is_delayed_together(proxy: FaultProxy, client: socket.socket) -> None:
    """Ten answers under way arrive in their order, and not one delay after the other."""
    proxy.fault = Latency(down_ms=100, down_jitter_ms=100)
    began = time.monotonic()

    for digit in range(10):
        send_and_be_answered(proxy, client, b"%d" % digit)
    answers = b"".join(client.recv(1) for _ in range(10))

    assert answers == b"0123456789"
    assert time.monotonic() - began < 10 * 0.100


def test_what_was_delayed_is_due_when_healed(proxy: FaultProxy, client: socket.socket) -> None:
    """An answer of tomorrow comes today."""
    proxy.fault = Latency(down_ms=24 * 3_600_000)
    send_and_be_answered(proxy, client, b"tomorrow")

    proxy.heal()

    assert client.recv(100) == b"tomorrow"


def test_the_seed_decides_the_jitter(echo: Echo) -> None:
    """The same seed gives the same delays, and a proxy tells the seed that it chose itself."""
    chosen = FaultProxy(echo.address)
    again = FaultProxy(echo.address, seed=chosen.seed)
    jitter = Latency(down_jitter_ms=20)

    delays, same = ([jitter.delay_seconds(DOWN, proxy._random) for _ in range(9)] for proxy in (chosen, again))

    assert delays == same
    assert 0 <= min(delays) < max(delays) <= 0.020
    assert f"seed={chosen.seed}" in repr(chosen)


def test_what_is_delayed_has_a_limit(proxy: FaultProxy, client: socket.socket) -> None:
    """A client that sends more than a network holds must wait."""
    proxy.fault = Latency(up_ms=24 * 3_600_000)

    client.settimeout(IMPATIENT * 4)
    with pytest.raises(TimeoutError):
        client.sendall(b"x" * TOO_MUCH)

    assert proxy.bytes_up < HELD_BYTES + TOO_MUCH // 4


@pytest.mark.parametrize("direction", [UP, DOWN, BOTH])
def test_trickle(proxy: FaultProxy, client: socket.socket, direction: Direction) -> None:
    """Ten bytes, three at a time, take three pauses."""
    proxy.fault = Trickle(3, interval_ms=10, direction=direction)
    began = time.monotonic()

    assert ask(client, b"0123456789") == b"0123456789"

    assert time.monotonic() - began >= 3 * 0.010


def test_trickle_sends_pieces(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """With a pause of a day one piece arrives today; healed, the rest does, in either direction."""
    proxy.fault = Trickle(3, interval_ms=24 * 3_600_000, direction=DOWN)
    client.sendall(b"0123456789")
    assert client.recv(100) == b"012"
    assert hears_nothing(client)
    proxy.heal()
    assert client.recv(100) == b"3456789"

    proxy.fault = Trickle(3, interval_ms=24 * 3_600_000, direction=UP)
    client.sendall(b"abcdef")
    assert client.recv(100) == b"abc"
    assert hears_nothing(client)
    proxy.heal()
    assert client.recv(100) == b"def"
    assert echo.heard == [b"hello", b"0123456789", b"abc", b"def"]


@pytest.mark.parametrize("after", [0, 4])
def test_reset_in_the_middle_of_an_answer(echo: Echo, proxy: FaultProxy, client: socket.socket, after: int) -> None:
    """So many bytes of the answer arrive, then the connection breaks; the request was carried out."""
    proxy.fault = Reset(after_bytes=after)

    client.sendall(b"0123456789")
    received = b"".join(client.recv(1) for _ in range(after))

    assert received == b"0123456789"[:after]
    if isinstance(proxy.address, str):
        assert client.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.heard[1:] == [b"0123456789"]


def test_cut_down(proxy: FaultProxy, client: socket.socket) -> None:
    """The answer ends in good order after so many bytes, however many portions it came in."""
    proxy.fault = Cut(DOWN, after_bytes=7)

    assert ask(client, b"01234") == b"01234"
    client.sendall(b"56789")

    assert read_all(client) == b"56"


def test_cut_up(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    """The server gets so many bytes of the request, and the end."""
    proxy.fault = Cut(UP, after_bytes=4)

    client.sendall(b"0123456789")

    assert b"0123".startswith(read_all(client))
    assert eventually(lambda: echo.heard == [b"hello", b"0123"])


def test_drop_connections(proxy: FaultProxy, client: socket.socket) -> None:
    """Those that exist end, new ones are welcome."""
    proxy.drop_connections()

    assert client.recv(1) == b""
    assert proxy.open_connections == 0
    with connect(proxy.address) as new:
        assert ask(new, b"welcome") == b"welcome"


def test_drop_connections_with_a_reset(proxy: FaultProxy, client: socket.socket) -> None:
    """As an overloaded balancer does it."""
    proxy.drop_connections(reset=True)

    if isinstance(proxy.address, str):
        assert client.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            client.recv(1)


# Scripts


def test_the_answer_of_exactly_the_third_request_is_lost(echo: Echo, proxy: FaultProxy) -> None:
    """The third is carried out and unanswered, on its connection only; what comes before and after is answered."""
    proxy.script = [(At(3, b"EVALSHA"), OnlyThere(LoseAnswers()))]

    with connect(proxy.address) as one, connect(proxy.address) as other:
        assert ask(one, b"EVALSHA 1") == b"EVALSHA 1"
        assert ask(other, b"PING") == b"PING"
        assert ask(other, b"EVALSHA 2") == b"EVALSHA 2"
        one.sendall(b"EVALSHA 3")
        assert eventually(lambda: b"EVALSHA 3" in echo.heard)
        assert ask(other, b"EVALSHA 4") == b"EVALSHA 4"
        assert hears_nothing(one)

    assert proxy.script == []
    assert proxy.fault == PASS
    assert proxy.requests(b"EVALSHA") == 4


def test_a_request_in_pieces_is_one(proxy: FaultProxy, client: socket.socket) -> None:
    """The bytes of a request may come one by one, and several requests together."""
    proxy.script = [(At(4, b"LPUSH"), Cut(UP, after_bytes=0))]

    for byte in b"LPUSH LPUS":
        assert ask(client, bytes([byte])) == bytes([byte])
    assert proxy.requests(b"LPUSH") == 1
    assert ask(client, b"H LPUSH LPUS") == b"H LPUSH LPUS"
    assert proxy.requests(b"LPUSH") == 3

    client.sendall(b"H LPUSH LPUSH")
    assert read_all(client) == b""
    assert proxy.requests(b"LPUSH") == 6


def test_steps_count_from_the_one_before(proxy: FaultProxy) -> None:
    """Two connections pass, the third is frozen, one more heals; after ten bytes up the server dies."""
    proxy.script = [
        (At(3, CONNECTIONS), NeverRead()),
        (At(1, CONNECTIONS), PASS),
        (At(10, UP), Refuse(dropping=True)),
    ]

    with ExitStack() as clients:
        first, second = (clients.enter_context(connect(proxy.address)) for _ in range(2))
        assert ask(first, b"1") + ask(second, b"2") == b"12"
        third = clients.enter_context(connect(proxy.address))
        third.sendall(b"3")
        assert eventually(lambda: proxy.fault == NeverRead())
        assert hears_nothing(third)
        clients.enter_context(connect(proxy.address))
        assert third.recv(1) == b"3"
        assert ask(first, b"45678901") == b"45678901"
        first.sendall(b"2")
        assert read_all(first) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(proxy.address)


def test_one_portion_may_reach_several_steps(proxy: FaultProxy, client: socket.socket) -> None:
    """What the first step did not need counts for the second."""
    proxy.script = [(At(2, UP), Latency(up_ms=1)), (At(2, UP), Trickle(1, interval_ms=1)), (At(2, UP), Swallow())]

    assert ask(client, b"12345") == b"12345"

    assert proxy.fault == Trickle(1, interval_ms=1)
    assert proxy.script == [(At(2, UP), Swallow())]


def test_who_was_struck_alone_is_healed_with_all(proxy: FaultProxy, client: socket.socket) -> None:
    """A new fault of the proxy takes the place of a connection's own."""
    proxy.script = [(At(1, UP), OnlyThere(Latency(up_ms=24 * 3_600_000)))]
    client.sendall(b"first")
    assert eventually(lambda: proxy.bytes_up == len(b"hellofirst"))
    assert hears_nothing(client)

    proxy.heal()

    assert client.recv(100) == b"first"
    assert ask(client, b"second") == b"second"


def test_a_step_by_bytes_down(proxy: FaultProxy, client: socket.socket) -> None:
    """The portion that reaches the count is the first that is struck."""
    proxy.script = [(At(4, DOWN), Reset())]

    assert ask(client, b"123") == b"123"
    client.sendall(b"4")

    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


# Bad input


@pytest.mark.parametrize("address", [("192.0.2.1", 6379), ("0.0.0.0", 0), ("example.org", 80), "127.0.0.1:6379", ""])
def test_other_machines_are_refused(address: Address) -> None:
    """Neither upstream nor at the door: loopback or a unix socket."""
    with pytest.raises(ValueError, match=r"loopback|address|path"):
        FaultProxy(address)
    with pytest.raises(ValueError, match=r"loopback|address|path"):
        FaultProxy("/upstream", listen=address)


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda: At(0, UP),
        lambda: At(1, b""),
        lambda: At(1, "EVALSHA"),
        lambda: At(1, BOTH),
        lambda: OnlyThere(Refuse()),
        lambda: Trickle(0, interval_ms=10),
    ],
)
def test_a_script_that_cannot_strike_is_refused(nonsense: Callable[[], object]) -> None:
    """A test must not pass because its fault never came."""
    with pytest.raises(ValueError, match=r"\w"):
        nonsense()


def test_requests_that_nobody_counts(proxy: FaultProxy) -> None:
    """Not zero: an error."""
    with pytest.raises(LookupError, match="counting"):
        proxy.requests(b"EVALSHA")


def test_an_address_that_is_taken(echo: Echo) -> None:
    """Is left alone."""
    with pytest.raises(OSError, match=r"in use|belongs"), FaultProxy(echo.address, listen=echo.address):
        pass

    with connect(echo.address) as client:
        assert ask(client, b"mine") == b"mine"


# The end

FAULTS = [PASS, Refuse(), NeverRead(), Swallow(), LoseAnswers(), Latency(down_ms=60_000), Trickle(1, 60_000), Reset()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_nothing_is_left(echo: Echo, folder: Path, fault: Fault) -> None:
    """Whatever the fault and whoever is connected: no thread, no open file, no path; the counters can still be read."""
    listen: Address = str(folder / "proxy") if isinstance(echo.address, str) else ("127.0.0.1", 0)
    files, threads = open_files(), threading.active_count()

    with ExitStack() as clients:
        with FaultProxy(echo.address, listen=listen) as proxy:
            for _ in range(20):
                clients.enter_context(connect(proxy.address)).sendall(b"hello?")
            assert eventually(lambda: proxy.connections == 20)
            proxy.fault = fault
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            connect(proxy.address)

    assert proxy.connections == 20
    assert proxy.open_connections == 0
    assert not (folder / "proxy").exists()
    # Fewer are nobody's fault: what an earlier test had begun may end meanwhile.
    assert eventually(lambda: open_files() <= files and threading.active_count() <= threads)
    with pytest.raises(RuntimeError, match="not open"):
        proxy.heal()


# Redis


def test_a_script_of_a_real_redis_is_carried_out_and_unanswered(servers: Running) -> None:
    """The third EVALSHA times out for its client, and is in Redis; a second client and a new connection go on."""
    upstream = urlsplit(servers.environment["STOCK_REDIS_URL"]).path
    third = (At(3, b"EVALSHA"), OnlyThere(LoseAnswers()))
    key = "fault-proxy-test"

    with FaultProxy(upstream, script=[third]) as proxy, ExitStack() as clients:
        one, other = (
            clients.enter_context(
                redis.Redis(unix_socket_path=str(proxy.address), socket_timeout=0.25, retry=Retry(NoBackoff(), 0))
            )
            for _ in range(2)
        )
        push = one.register_script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
        push.sha = one.script_load(push.script)
        assert [push([key], [1]), push([key], [2], client=other)] == [1, 2]

        with pytest.raises(redis.TimeoutError):
            push([key], [3])

        assert other.lrange(key, 0, -1) == [b"1", b"2", b"3"]
        assert push([key], [4]) == 4
        assert proxy.requests(b"EVALSHA") == 4

        proxy.fault = Refuse(dropping=True)
        with pytest.raises(redis.ConnectionError):
            other.ping()
        proxy.heal()
        assert other.ping()
        assert one.delete(key)
