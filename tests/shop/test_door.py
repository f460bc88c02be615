"""The door: who is refused and how, what the refused hear, and that every place comes back.

Granian serves it in a process of its own, with one place and an application behind it that a test can hold up; what is
decided without a server is asked of the same class here.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.wsgi import get_wsgi_application
from django.test import RequestFactory
from pytest_django import Settings

from resilience import deadline, degradation
from resilience.admission import Budgets, WaitingRoom
from resilience.clock import now_ms
from resilience.degradation import Level, Situation
from shop import buyers, provider
from shop.criticality import Importance
from shop.door import BODY_MAXIMUM, Door, Environ, Rooms
from shop.models import Sale
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.free_ports import free_port
from tests.shop.clicks import everything, ticket

ROOT = Path(__file__).parents[2]
PAGE = {"Accept": "text/html"}


class Guarded:
    """Granian with the door and one place behind it. `holding` is the folder in which the application is held up."""

    def __init__(self, port: int, holding: Path) -> None:
        self.port, self.holding = port, holding

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[HTTPResponse, bytes]:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()

    @property
    def is_full(self) -> bool:
        return self.ask("GET", "/livez")[1] == b"True"

    @contextmanager
    def full(self) -> Iterator[None]:
        """Somebody has the only place."""
        with closing(self.connect()) as somebody:
            somebody.request("GET", "/held")
            eventually((self.holding / "came").exists)
            try:
                yield
            finally:
                (self.holding / "go").touch()
                assert somebody.getresponse().read() == b"held"
        eventually(lambda: not self.is_full)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    holding, port = tmp_path_factory.mktemp("holding"), free_port()
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--blocking-threads", "64"),
        *("--no-ws", "--log-level", "warning", "tests.shop.behind_the_door:application"),
    ]
    environment = {**os.environ, "HOLDING": str(holding), "WEB_SLOTS": "1", "WEB_THREADS": "76", "TRUSTED_PROXIES": "1"}
    with (
        (holding / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as running,
    ):
        guarded = Guarded(port, holding)
        try:
            eventually(lambda: running.poll() is not None or _answers(guarded))
            yield guarded
        finally:
            running.terminate()


def _answers(guarded: Guarded) -> bool:
    try:
        return guarded.ask("GET", "/livez")[0].status == 200
    except OSError:
        return False


@pytest.fixture
def guarded(process: Guarded) -> Guarded:
    for left in process.holding.glob("[!l]*"):
        left.unlink()
    return process


# --- Under granian ---------------------------------------------------------------------------------------------------


def test_the_refused_are_told_so_and_may_stay_connected(guarded: Guarded) -> None:
    """503 with a body for people or programs, and when to come back; the next request on the connection is served."""
    with closing(guarded.connect()) as connection:
        with guarded.full():
            connection.request("GET", "/sales/summer/state")
            refused = connection.getresponse()
            told = json.loads(refused.read())
        connection.request("GET", "/sales/summer/state")
        served = connection.getresponse()

        assert (refused.status, told["outcome"]) == (503, "BUSY")
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["Cache-Control"] == "no-store"
        assert served.status == 200


@pytest.mark.parametrize("size", [0, 1, 1_000, 16_000, BODY_MAXIMUM])
def test_a_refused_body_does_not_break_the_connection(guarded: Guarded, size: int) -> None:
    """Also one that comes after its headers, as a browser's may: it is read, and what follows on the line is served."""
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=PATIENCE_SECONDS) as line:
        with guarded.full():
            _post_in_parts(line, size)
            refused = _read_answer(line)
        _post_in_parts(line, size)
        served = _read_answer(line)

    assert refused.startswith(b"HTTP/1.1 503")
    assert served.startswith(b"HTTP/1.1 200")
    assert served.split(b"\r\n\r\n")[1].startswith(b"%d " % size)


def _post_in_parts(line: socket.socket, size: int) -> None:
    head = b"POST /sales/summer/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(head)
    for start in range(0, size, 10_000):
        line.sendall(b"a" * min(10_000, size - start))


def _read_answer(line: socket.socket) -> bytes:
    read = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n", read)) or len(
        read
    ) < found.end() + int(found[1]):
        part = line.recv(65_536)
        assert part, f"the connection ended after {read!r}"
        read += part
    return read


def test_head_is_answered_without_a_body(guarded: Guarded) -> None:
    with guarded.full(), closing(guarded.connect()) as connection:
        connection.request("HEAD", "/sales/summer/", headers=PAGE)
        refused = connection.getresponse()

        assert refused.status == 503
        assert int(refused.headers["Content-Length"]) > 0
        assert refused.read() == b""


def test_probes_pass_a_full_room(guarded: Guarded) -> None:
    with guarded.full():
        assert guarded.is_full


def test_staff_pass_a_full_room(guarded: Guarded) -> None:
    """They have places of their own, and longer than shoppers."""
    with guarded.full():
        answer, body = guarded.ask("GET", "/admin/")

    assert answer.status == 200
    assert float(body.split()[1]) > 9


def test_passwords_and_payments_do_not_take_the_shoppers_places(guarded: Guarded) -> None:
    with guarded.full():
        assert guarded.ask("POST", "/accounts/login/")[0].status == 200
        assert guarded.ask("POST", "/orders/S1/pay")[0].status == 200


def test_a_place_comes_back_after_an_error(guarded: Guarded) -> None:
    """The application breaks: granian says 500, and the place is free."""
    assert guarded.ask("GET", "/sales/broken")[0].status == 500

    assert not guarded.is_full
    assert guarded.ask("GET", "/sales/summer/state")[0].status == 200


def test_a_streamed_answer_keeps_its_place_until_it_is_read(guarded: Guarded) -> None:
    with closing(guarded.connect()) as connection:
        connection.request("GET", "/streamed")
        answer = connection.getresponse()
        assert guarded.is_full

        assert len(answer.read()) == 64_000_000

    eventually(lambda: not guarded.is_full)
    assert (guarded.holding / "closed").exists()


def test_a_reader_who_goes_gives_the_place_back(guarded: Guarded) -> None:
    with closing(guarded.connect()) as connection:
        connection.request("GET", "/streamed")
        connection.getresponse().read(1)
        assert guarded.is_full

    eventually(lambda: not guarded.is_full)
    eventually((guarded.holding / "closed").exists)


@pytest.mark.parametrize("length", [10, 100_000, BODY_MAXIMUM + 1])
def test_slow_senders_leave_threads_to_others(guarded: Guarded, length: int) -> None:
    """More than there are threads send a head and no body: a quarter waits for them, and everybody else is served. What
    is larger than any form of ours is not waited for."""
    head = b"POST /sales/summer/buy HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    lines = [socket.create_connection(("127.0.0.1", guarded.port)) for _ in range(100)]
    try:
        for line in lines:
            line.sendall(head)

        assert not guarded.is_full
        assert guarded.ask("GET", "/sales/summer/state")[0].status == 200
        assert guarded.ask("GET", "/livez")[0].status == 200
    finally:
        for line in lines:
            line.close()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
@pytest.mark.parametrize(
    ("path", "word"),
    [("/sales/summer/buy", "TOO_LARGE"), ("/payments/callback", "TOO_LARGE"), ("/accounts/signup/", "CROSS_SITE")],
)
def test_what_is_too_large_hears_a_word(kind: str, path: str, word: str, make_shopper: Callable[[], Any]) -> None:
    """Nobody reads it, a form's token neither, and nobody stumbles over what was not read."""
    door, cookie = Door(get_wsgi_application(), some_rooms()), make_shopper().cookies["buyer"].value

    answer = Answer(
        door, "POST", path, CONTENT_LENGTH=str(BODY_MAXIMUM + 1), CONTENT_TYPE=kind, HTTP_COOKIE=f"buyer={cookie}"
    )

    assert answer.outcome == word


@pytest.mark.parametrize(
    ("stamp", "least", "most"),
    [
        (lambda: f"t={(now_ms() - 400) / 1000:.3f}", 0.0, 0.6),
        (lambda: f"t={(now_ms() + 60_000) / 1000:.3f}", 0.7, 1.0),
        (lambda: f"t={(now_ms() - 60_000) / 1000:.3f}", 0.7, 1.0),
        (lambda: f"t={now_ms()}", 0.7, 1.0),
        (lambda: "t=1.5, t=2.5", 0.7, 1.0),
        (lambda: "t=nan", 0.7, 1.0),
        (lambda: "", 0.7, 1.0),
    ],
    ids=["400 ms ago", "in the future", "long ago", "another unit", "two", "no number", "empty"],
)
def test_the_edge_says_when_a_request_came(
    guarded: Guarded, stamp: Callable[[], str], least: float, most: float
) -> None:
    """What it waited before is gone from its second; a stamp that cannot be true is none."""
    answer, body = guarded.ask("GET", "/sales/summer/state", X_Request_Start=stamp())

    assert answer.status == 200
    assert least <= float(body.split()[1]) <= most


# --- What is decided without a server --------------------------------------------------------------------------------


def answered(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """An application that is there."""
    body = json.dumps({"left": deadline.left_seconds()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Answer:
    """What a WSGI server would send."""

    def __init__(self, door: Door, method: str, path: str, body: bytes = b"", **environ: str) -> None:
        made = RequestFactory().generic(method, path, body, content_type="application/json").environ
        self.body = b"".join(door({**made, **environ}, self._start))

    def _start(self, status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], None]:
        self.status, self.headers = int(status.split()[0]), dict(headers)
        assert len(self.headers) == len(headers), "a header came twice"
        return lambda _: None

    @property
    def outcome(self) -> str:
        return str(json.loads(self.body)["outcome"])


def some_rooms() -> Rooms:
    """One place in each, and hardly any patience."""
    hasty = Budgets(least_seconds=0.001, most_seconds=0.002, burst_seconds=0.001)
    return Rooms(*(WaitingRoom(1, 32, hasty, lane="test") for _ in range(3)))


@pytest.fixture
def level() -> Iterator[Callable[[Level], None]]:
    def become(level: Level) -> None:
        degradation.current.situation = Situation(level)

    yield become
    degradation.current.situation = Situation()


def full_door(application: Any = answered) -> Door:
    rooms = some_rooms()
    for room in (rooms.public, rooms.slow, rooms.staff):
        room.enter(0, 0)
    return Door(application, rooms)


def test_every_refusal_says_what_all_answers_say() -> None:
    """Its number, the time, and the headers that Django's middleware would have added."""
    before = now_ms()
    refused = Answer(full_door(), "GET", "/", HTTP_ACCEPT="text/html", HTTP_X_REQUEST_ID="my-own-number")

    assert refused.status == 503
    assert refused.headers["X-Request-Id"] == "my-own-number"
    assert before <= int(refused.headers["X-Server-Now-Ms"]) <= now_ms()
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert refused.headers["X-Frame-Options"] == "DENY"
    assert refused.headers["Content-Length"] == str(len(refused.body))
    assert "Set-Cookie" not in refused.headers


def test_a_number_that_is_not_decent_is_replaced() -> None:
    """It goes into logs."""
    refused = Answer(full_door(), "GET", "/", HTTP_X_REQUEST_ID="x\r\nSet-Cookie: a=b")

    assert re.fullmatch(r"[0-9a-f]{32}", refused.headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9", "zh-hans"),
        ("", "fr, zh-CN;q=0.5, en;q=0.4", "zh-hans"),
        ("lang=en", "zh-CN", "en"),
        ("a=b; lang=zh-hans; c=d", "en", "zh-hans"),
        ("xlang=zh-hans", "en", "en"),
        ("lang=klingon", "zh-CN", "zh-hans"),
        ("lang=" + "x" * 5_000, "zh-CN", "zh-hans"),
    ],
)
def test_a_refusal_speaks_the_reader_s_language(cookie: str, accepted: str, language: str) -> None:
    """By cookie, else by what the browser accepts; as all pages do."""
    refused = Answer(full_door(), "GET", "/", HTTP_COOKIE=cookie, HTTP_ACCEPT_LANGUAGE=accepted)

    assert refused.headers["Content-Language"] == language


def test_only_a_buyer_is_as_important_as_one(transactional_db: None) -> None:
    """A click without the signed cookie has nothing to lose: it ranks with those who look."""
    rooms = some_rooms()
    rooms.public.enter(0, 0)
    door, signed = Door(answered, rooms), buyers.cookie_for(17)

    for cookie in ("", "buyer=forged", f"buyer={signed[:-2]}xx", f"buyer={signed}"):
        assert Answer(door, "POST", "/sales/summer/buy", HTTP_COOKIE=cookie).status == 503

    eventually(lambda: rooms.public.figures(2.0).arrived == (1, 3, 0, 1))


def test_refused_buyers_changed_nothing(make_shopper: Callable[[], Any], sale: Sale, stock_redis: redis.Redis) -> None:
    """Ten clicks with good tickets on a full shop: all hear BUSY, and nothing moved. Later they are served."""
    django, shoppers = get_wsgi_application(), [make_shopper() for _ in range(10)]
    clicks = [(shopper.cookies["buyer"].value, ticket(shopper, sale)) for shopper in shoppers]
    before = everything(stock_redis)

    full = full_door(django)
    refused = at_once(clicks, lambda click: _press(full, sale, *click))
    assert {answer.outcome for answer in refused} == {"BUSY"}
    assert everything(stock_redis) == before

    free = Door(django, some_rooms())
    for click in clicks:
        eventually(lambda click=click: _press(free, sale, *click).outcome in ("RESERVED", "REPEATED"))


def _press(door: Door, sale: Sale, cookie: str, sealed: str) -> Answer:
    body = json.dumps({"ticket": sealed}).encode()
    return Answer(door, "POST", f"/sales/{sale.slug}/buy", body, HTTP_COOKIE=f"buyer={cookie}")


@pytest.mark.parametrize(
    ("at", "method", "path", "status"),
    [
        (Level.NORMAL, "GET", "/", 200),
        (Level.BROWNOUT, "GET", "/", 200),
        (Level.SHED, "GET", "/", 503),
        (Level.SHED, "GET", "/sales/summer/", 503),
        (Level.SHED, "GET", "/orders/", 200),
        (Level.SHED, "GET", "/static/shop/again.js", 200),
        (Level.SHED, "POST", "/sales/summer/buy", 200),
        (Level.STATIC, "POST", "/sales/summer/buy", 503),
        (Level.STATIC, "GET", "/orders/", 503),
        (Level.STATIC, "GET", "/static/shop/again.js", 200),
        (Level.SHED, "POST", "/payments/callback", 503),
        (Level.STATIC, "GET", "/admin/", 200),
        (Level.STATIC, "GET", "/livez", 200),
    ],
)
def test_what_a_level_gives_up(
    level: Callable[[Level], None], at: Level, method: str, path: str, status: int, transactional_db: None
) -> None:
    """At SHED the unimportant, though there is room; at STATIC all but staff, probes, and the money that was paid."""
    level(at)
    cookie = f"buyer={buyers.cookie_for(17)}"

    assert Answer(Door(answered, some_rooms()), method, path, HTTP_COOKIE=cookie).status == status


def test_the_providers_word_comes_in_at_every_level(level: Callable[[Level], None]) -> None:
    """By its seal; without one, with that of other bytes or with too many of them, it is anybody's."""
    level(Level.STATIC)
    door, event, long = Door(answered, some_rooms()), b'{"event_id": "e1"}', b" " * (provider.CALLBACK_MAXIMUM + 1)

    def told(body: bytes, **seal: str) -> int:
        return Answer(door, "POST", "/payments/callback", body, **seal).status

    assert told(event, HTTP_X_SIGNATURE=provider.sign(event)) == 200
    assert told(event) == 503
    assert told(event, HTTP_X_SIGNATURE=provider.sign(b"{}")) == 503
    assert told(long, HTTP_X_SIGNATURE=provider.sign(long)) == 503


def test_what_is_not_the_providers_ranks_with_those_who_browse() -> None:
    """In a full room a callback without its seal is refused as the least important, one with it as the most."""
    rooms, event = some_rooms(), b'{"event_id": "e1"}'
    door = Door(answered, rooms)
    rooms.public.enter(Importance.BUYING, 0)

    for seal in ({}, {"HTTP_X_SIGNATURE": provider.sign(event)}):
        assert Answer(door, "POST", "/payments/callback", event, **seal).status == 503

    eventually(lambda: rooms.public.figures(2.0).refused == (1, 0, 0, 1))


def test_the_words_of_a_shop_that_is_static(level: Callable[[Level], None], transactional_db: None) -> None:
    """Buyers hear that the sale is paused and nothing was bought; the rest that the shop is back soon."""
    level(Level.STATIC)
    door, cookie = Door(answered, some_rooms()), f"buyer={buyers.cookie_for(17)}"

    assert Answer(door, "POST", "/sales/summer/buy", HTTP_COOKIE=cookie).outcome == "PAUSED"
    assert b"is back soon" in Answer(door, "GET", "/orders/", HTTP_ACCEPT="text/html").body


def test_an_answer_that_is_made_gives_its_place_back_before_it_is_sent() -> None:
    """A shopper's line is no reason to keep others waiting: Django's answers, and files of our own."""
    rooms = some_rooms()
    door = Door(get_wsgi_application(), rooms)

    for path in ("/no-such-address", "/static/shop/again.js"):
        door(RequestFactory().get(path).environ, lambda *_: None)
        assert not rooms.public.is_full


def test_a_stamp_of_a_stranger_is_not_believed(settings: Settings) -> None:
    """Without a proxy of ours before this process, whoever writes the header is a client."""
    stamp = f"t={(now_ms() - 900) / 1000:.3f}"

    def left() -> float:
        answer = Answer(Door(answered, some_rooms()), "GET", "/orders/", HTTP_X_REQUEST_START=stamp)
        return float(json.loads(answer.body)["left"])

    settings.TRUSTED_PROXIES = 0
    assert left() > 0.5
    settings.TRUSTED_PROXIES = 1
    assert left() < 0.2


def test_the_room_is_left_once() -> None:
    """By a hundred threads at the same moment, each of them a request: as many places as before."""
    rooms = Rooms(*(WaitingRoom(5, 128, lane="test") for _ in range(3)))
    door = Door(answered, rooms)

    at_once(range(100), lambda _: Answer(door, "GET", "/orders/"))

    assert rooms.public._free == 5
