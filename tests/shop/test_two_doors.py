"""The same bytes into both lanes as granian serves them: one contract, two doors.

What Django's test client cannot send: bytes that are hardly HTTP, bodies that come late, in pieces or not at all, and
tickets with a single bit changed. Some of it granian refuses by itself; both lanes are still there afterwards.
"""

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from django.db import connection
from django.test import Client

from shop import buyers
from shop.local.options import Options
from shop.local.processes import WEB_THREADS, granian
from shop.models import Sale
from shop.words import WORDS
from tests.crowd import eventually
from tests.free_ports import free_port
from tests.shop import clicks

ROOT = Path(__file__).resolve().parents[2]
LANES = ("express", "pages")
#: Seconds an answer may take on a busy machine.
PATIENCE_SECONDS = 30
#: Seconds between two pieces of a slow body.
SLOW_SECONDS = 0.05
#: Each answer has its own. granian adds the date, and ends the connection when a body had not come by then.
ITS_OWN = {"x-request-id", "x-server-now-ms", "date", "connection"}
_REQUEST_CODE = re.compile(rb"<code>[A-Za-z0-9_-]{8,64}</code>")
BITS = 8


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def word(self) -> str:
        return str(json.loads(self.body)["outcome"]) if self.body else ""


@pytest.fixture(scope="module")
def ports(django_db_setup: None) -> Iterator[dict[str, int]]:
    """The port of each lane, on the database of the tests."""
    parts = connection.settings_dict
    url = f"postgresql://shop@/{parts['NAME']}?host={parts['HOST']}&port={parts['PORT']}"
    ports, running = {lane: free_port() for lane in LANES}, []
    for lane, port in ports.items():
        arguments = granian(Options.read({}), "--host", "127.0.0.1", "--port", str(port))
        environment = {**os.environ, "DATABASE_URL": url, "LANE": lane, "WEB_THREADS": str(WEB_THREADS)}
        running.append(subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment))
    try:
        for port in ports.values():
            eventually(lambda port=port: is_alive(port))  # type: ignore[misc]
        yield ports
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(PATIENCE_SECONDS)


def is_alive(port: int) -> bool:
    try:
        return ask(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200
    except OSError:
        return False


def ask(port: int, *pieces: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as line:
        return say(line, *pieces)


def say(line: socket.socket, *pieces: bytes) -> Answer:
    """The answer to a request that comes in these pieces; status 0 when the connection ends without one."""
    try:
        for at, piece in enumerate(pieces):
            if at:
                time.sleep(SLOW_SECONDS)
            line.sendall(piece)
    except OSError:
        pass  # it was answered before all of it was read
    return hear(line, pieces[0].split(b" ", 1)[0].decode("latin-1"))


def hear(line: socket.socket, method: str = "GET") -> Answer:
    answer = http.client.HTTPResponse(line, method=method)
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, OSError):
        return Answer(0, {}, b"")
    headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in ITS_OWN}
    return Answer(answer.status, headers, _REQUEST_CODE.sub(b"<code></code>", body))


# --- What is sent ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """`{sale}`, `{cookie}` and `{ticket}` are filled in. Words that are not in WORDS: `server`, granian refuses it by
    itself, or ends the connection; `any`, a refusal with some word of ours."""

    name: str
    word: str
    pieces: tuple[bytes, ...]


def post(body: bytes, *headers: bytes, path: bytes = b"/sales/{sale}/buy", length: bytes | None = None) -> bytes:
    """A click. Headers come after those that it cannot do without."""
    told = b"Content-Length: %d" % len(body) if length is None else length
    lines = [b"POST %s HTTP/1.1" % path, b"Host: localhost", b"Accept: application/json", b"Cookie: buyer={cookie}"]
    lines += [b"Content-Type: application/json", *([told] if told else []), *headers]
    return b"\r\n".join([*lines, b"", body])


def get(path: bytes, *headers: bytes, method: bytes = b"GET", host: bytes = b"Host: localhost") -> bytes:
    lines = [b"%s %s HTTP/1.1" % (method, path), *([host] if host else []), b"Accept: application/json", *headers]
    return b"\r\n".join([*lines, b"", b""])


STATE, BUY = b"/sales/{sale}/state", b"/sales/{sale}/buy"
BAD = b'{"units": 1}'
CHUNKED = b"Transfer-Encoding: chunked"

METHODS = [
    *(
        Row(f"{method.decode()} of a click", "METHOD", (get(BUY, method=method),))
        for method in (b"GET", b"BREW", b"post")
    ),
    *(
        Row(f"{m.decode()} of a state", "METHOD", (get(STATE, b"Content-Length: 0", method=m),))
        for m in (b"PUT", b"TRACE")
    ),
    Row("a method of a thousand letters", "METHOD", (get(BUY, method=b"A" * 1_000),)),
]
LENGTHS = [
    *(
        Row(f"Content-Length {text!r}", "server", (post(BAD, length=b"Content-Length: " + text),))
        for text in (b"abc", b"-5", b"1e3", b"+2")
    ),
    Row("two lengths that differ", "server", (post(BAD, b"Content-Length: 5"),)),
    Row("a length and chunks", "any", (post(b"3\r\n{}}\r\n0\r\n\r\n", CHUNKED),)),
    Row("no length and no body", "any", (post(b"", length=b""),)),
    Row("a length of a gigabyte", "TOO_LARGE", (post(BAD, length=b"Content-Length: 1000000000"),)),
    Row("a length of all nines", "server", (post(BAD, length=b"Content-Length: " + b"9" * 40),)),
]
BODIES = [
    Row("chunks", "any", (post(b'c\r\n{"units": 1}\r\n0\r\n\r\n', CHUNKED, length=b""),)),
    Row("chunks of no size", "server", (post(b"zz\r\n{}\r\n0\r\n\r\n", CHUNKED, length=b""),)),
    Row(
        "a body that comes slowly",
        "TICKET_REFUSED",
        (post(b"", length=b"Content-Length: 12"), *(BAD[at : at + 1] for at in range(12))),
    ),
    Row("a head that comes slowly", "TICKET_REFUSED", (post(BAD)[:9], post(BAD)[9:60], post(BAD)[60:])),
    Row("a body of 10 MB", "TOO_LARGE", (post(b" " * 10_000_000),)),
    Row("chunks of 10 MB", "any", (post(b"989680\r\n" + b" " * 10_000_000 + b"\r\n0\r\n\r\n", CHUNKED, length=b""),)),
    Row("whoever waits to be told to go on", "TICKET_REFUSED", (post(BAD, b"Expect: 200-something"),)),
]
HEADERS = [
    Row("a thousand headers", "server", (post(BAD, *(b"X-%d: x" % n for n in range(1_000))),)),
    Row("a header of a megabyte", "server", (post(BAD, b"X-Long: " + b"x" * 1_000_000),)),
    Row("a header without a name", "server", (post(BAD, b": x"),)),
    Row("a header with a zero byte", "server", (post(BAD, b"X-Zero: a\0b"),)),
    Row("a folded header", "server", (post(BAD, b"X-Folded: a", b" b"),)),
    Row("two cookies", "any", (post(BAD, b"Cookie: buyer=another"),)),
    Row("two kinds of content", "any", (post(BAD, b"Content-Type: text/plain"),)),
    Row("two hosts", "any", (post(BAD, b"Host: evil.example"),)),
    Row("letters beyond ASCII", "TICKET_REFUSED", (post(BAD, b"X-Letters: \xff\xfe"),)),
]
WHERE_FROM = [
    *(
        Row(f"a foreign host on {path.decode()}", "INVALID", (get(path, host=b"Host: evil.example"),))
        for path in (STATE, b"/")
    ),
    Row("no host at all", "INVALID", (get(STATE, host=b""),)),
    Row("a host of 5 kB", "any", (get(STATE, host=b"Host: " + b"a" * 5_000),)),
    *(
        Row(f"the origin {origin!r}", "CROSS_SITE", (post(BAD, b"Origin: " + origin),))
        for origin in (b"https://evil.example", b"null", b"")
    ),
    Row("from another site", "CROSS_SITE", (post(BAD, b"Sec-Fetch-Site: cross-site"),)),
]
LINES = [
    Row("no HTTP at all", "server", (b"hello\r\n\r\n",)),
    Row("the greeting of TLS", "server", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,)),
    Row("HTTP/9.9", "server", (get(STATE).replace(b"HTTP/1.1", b"HTTP/9.9"),)),
    Row("no version", "server", (b"GET /\r\n\r\n",)),
    Row("a space in the path", "server", (get(b"/sales/a b/state"),)),
    Row("a slug that is none", "NOT_FOUND", (get(b"/sales/%00/state"),)),
    Row("a path of 8 kB", "NOT_FOUND", (get(b"/sales/" + b"a" * 8_000 + b"/state"),)),
    Row("somebody else's reservation", "SIGN_IN", (get(b"/reservations/1-AAAAAAAAAAAAAAAAAAAAAA"),)),
]
ROWS = {
    "methods": METHODS,
    "lengths": LENGTHS,
    "bodies": BODIES,
    "headers": HEADERS,
    "where from": WHERE_FROM,
    "lines": LINES,
}


@dataclass(frozen=True)
class Known:
    """What rows are filled in with."""

    sale: str
    cookie: str
    ticket: str

    def fill(self, text: bytes) -> bytes:
        for name in ("sale", "cookie", "ticket"):
            text = text.replace(b"{%s}" % name.encode(), getattr(self, name).encode())
        return text


@pytest.fixture
def known(sale: Sale, shopper: Client) -> Known:
    return Known(sale.slug, shopper.cookies[buyers.COOKIE].value, clicks.ticket(shopper, sale))


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_bytes_that_make_no_sense(
    rows: list[Row], ports: dict[str, int], known: Known, stock_redis: redis.Redis, subtests: pytest.Subtests
) -> None:
    """A refusal in the documented shape, or the server's own; the same through both; nothing changed, all alive."""
    before = clicks.everything(stock_redis)

    for row in rows:
        with subtests.test(row.name):
            pieces = [known.fill(piece) for piece in row.pieces]
            express, pages = (ask_and_go_on(ports[lane], known, *pieces) for lane in LANES)

            assert express == pages
            is_refused(row, express)
            assert clicks.everything(stock_redis) == before
            assert all(is_alive(port) for port in ports.values())


def ask_and_go_on(port: int, known: Known, *pieces: bytes) -> Answer:
    """The answer; afterwards the same connection is usable, or has ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as line:
        answer = say(line, *pieces)
        next_one = say(line, known.fill(get(STATE)))
        assert next_one.status in (0, 200, 400)  # 400: it still takes the rest of the nonsense for requests
        return answer


def is_refused(row: Row, answer: Answer) -> None:
    if row.word == "server":
        assert answer.status in (0, 400, 413, 414, 431, 505), answer
        return
    assert 400 <= answer.status < 500, answer
    assert json.loads(answer.body).keys() == {"outcome", "detail"}
    if row.word != "any":
        assert (answer.word, answer.status) == (row.word, WORDS[row.word].status)


# --- Tickets and cookies ---------------------------------------------------------------------------------------------


def flipped(sealed: str) -> Iterator[str]:
    """The record with one bit changed, for each of its bits; spelled as ours are."""
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for at in range(len(raw) * BITS):
        changed = bytearray(raw)
        changed[at // BITS] ^= 1 << at % BITS
        yield base64.urlsafe_b64encode(changed).rstrip(b"=").decode()


@pytest.mark.parametrize("lane", LANES)
def test_a_ticket_with_one_bit_changed(
    lane: str, ports: dict[str, int], known: Known, stock_redis: redis.Redis
) -> None:
    """Each of its bits counts; all of them on one connection, and the ticket itself still buys afterwards."""
    before = clicks.everything(stock_redis)

    with socket.create_connection(("127.0.0.1", ports[lane]), timeout=PATIENCE_SECONDS) as line:
        words = {say(line, known.fill(click(bad))).word for bad in flipped(known.ticket)}
        assert clicks.everything(stock_redis) == before
        assert say(line, known.fill(click(known.ticket))).status == 202

    assert words == {"TICKET_REFUSED"}


def click(ticket: str) -> bytes:
    return post(json.dumps({"ticket": ticket, "units": 1}).encode())


@pytest.mark.parametrize("lane", LANES)
def test_a_cookie_with_one_bit_changed(lane: str, ports: dict[str, int], known: Known) -> None:
    """It is nobody's."""
    with socket.create_connection(("127.0.0.1", ports[lane]), timeout=PATIENCE_SECONDS) as line:
        words = {
            say(line, Known(known.sale, bad, known.ticket).fill(click(known.ticket))).word
            for bad in flipped(known.cookie)
        }

    assert words == {"SIGN_IN"}


# --- Connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", LANES)
def test_requests_that_do_not_wait_for_answers(lane: str, ports: dict[str, int], known: Known) -> None:
    """Ten in one piece: ten answers, in their order; of ten clicks with one ticket the first one buys."""
    with socket.create_connection(("127.0.0.1", ports[lane]), timeout=PATIENCE_SECONDS) as line:
        line.sendall(known.fill(click(known.ticket)) * 10)
        incoming = line.makefile("rb")
        answers = [_next(incoming) for _ in range(10)]

    assert [status for status, _ in answers] == [202] + [200] * 9
    assert len({body["reservation"] for _, body in answers}) == 1


def _next(incoming: "socket.SocketIO") -> tuple[int, dict[str, str]]:  # type: ignore[name-defined]
    status = int(incoming.readline().split()[1])
    headers = http.client.parse_headers(incoming)
    return status, json.loads(incoming.read(int(headers["content-length"])))


@pytest.mark.parametrize("lane", LANES)
def test_a_client_that_hangs_up_half_way(
    lane: str, ports: dict[str, int], known: Known, stock_redis: redis.Redis
) -> None:
    """Nothing is bought by half a click, and whoever comes next is served."""
    before = clicks.everything(stock_redis)
    whole = known.fill(click(known.ticket))

    for part in (10, len(whole) // 2, len(whole) - 1):
        with socket.create_connection(("127.0.0.1", ports[lane]), timeout=PATIENCE_SECONDS) as line:
            line.sendall(whole[:part])

    assert is_alive(ports[lane])
    assert clicks.everything(stock_redis) == before


def test_no_secret_is_in_an_environ(tmp_path: Path, django_db_setup: None) -> None:
    """granian puts its environment into each request's: the keys and addresses of servers have left it by then."""
    said = subprocess.run(
        [sys.executable, "-c", ENVIRON], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )

    environ = json.loads(said.stdout.splitlines()[-1])
    assert environ["PATH_INFO"] == "/"
    secret = ("SECRET_KEY", "BUYER_KEYS", "TICKET_KEYS", "RECEIPT_KEYS", "PROVIDER_SECRET", "DATABASE_URL")
    assert not {name for name in environ if name in secret or name.endswith("_URL")}
    values = [value for name in secret if (value := os.environ.get(name))]
    assert len(values) == len(secret)
    assert not [value for value in values if value in said.stdout]


#: What a request's environ is made of, by granian's own wrapper around the shop.
ENVIRON = """
import json
from shop import wsgi
from granian.wsgi import _callback_wrapper
seen = {}
runner = _callback_wrapper(lambda environ, _: seen.update(environ) or [], {"url_path_prefix": None})
class Proto:
    def response_bytes(self, *_): pass
runner(Proto(), {"PATH_INFO": "/"})
print(json.dumps({name: str(value) for name, value in seen.items()}))
"""
