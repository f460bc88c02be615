"""The edge: a real nginx from the template, two real granian processes behind it that say what arrived."""

import gzip
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.http import HttpRequest, parse_cookie
from django.test import override_settings
from django.utils import translation

from resilience.clock import now_ms
from shop import edge_pages, limits, words
from shop.local import edge
from shop.local.accounts import service_account, shared_temp
from shop.local.edge import Edge
from shop.local.options import Options
from shop.local.programs import Program
from shop.local.refusal import Refusal
from shop.local.servers import Running
from shop.local.state import State
from shop.local.supervisor import Supervisor
from shop.views.storefront import _TAKES_GZIP
from tests.local.edged import HOST, EdgedLanes, nginx
from tests.local.waiting import eventually
from tests.servers import PREFIX

#: Headers that `test_the_language_is_the_one_that_django_finds` makes up, besides those of the table.
MADE_UP = 300
#: Of an answer that is kept until the second ends: asked this often, most are the same.
ASKED = 200


@pytest.fixture(scope="module")
def program(servers: Running) -> Iterator[Program]:
    state = State(shared_temp() / f"{PREFIX}edge-{os.getpid()}")
    yield nginx(servers.environment, state)
    state.remove()


@pytest.fixture(scope="module")
def edged(program: Program) -> Iterator[EdgedLanes]:
    """One for all tests that kill nobody."""
    state = State(shared_temp() / f"{PREFIX}edged-{os.getpid()}")
    running = EdgedLanes(program, state)
    yield running
    running.stop()
    state.remove()


@pytest.fixture
def mortal(program: Program, state: State) -> Iterator[EdgedLanes]:
    """One for each test that kills."""
    running = EdgedLanes(program, state)
    yield running
    running.stop()


# --- the configuration


def test_nginx_takes_the_configuration(edged: EdgedLanes) -> None:
    """Without a word of warning, and with nothing left to be filled in."""
    done = subprocess.run(
        [edged.edge.program.path, "-t", "-e", "stderr", "-c", edged.edge.configuration],
        env=edged.edge.program.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    assert not re.search(r"@\{\w", edged.edge.configuration.read_text())


def test_a_folder_that_cannot_be_told_to_nginx_is_refused(program: Program, tmp_path: Path) -> None:
    """One clear line instead of a configuration that means something else."""
    odd = Edge(program, tmp_path / 'a"; daemon on; "', tmp_path, None)
    with pytest.raises(Refusal, match="nginx cannot be told of"):
        edge.configuration(odd, Options.read({}), {"PORT": "8000"}, tmp_path)


def test_networks_that_are_none_are_refused(program: Program, tmp_path: Path) -> None:
    """What is exempt from limits is read strictly, and nothing else can be smuggled in."""
    here = Edge(program, tmp_path, tmp_path, None)
    with pytest.raises(Refusal, match="RATE_LIMIT_EXEMPT must be networks"):
        edge.configuration(here, Options.read({}), {"PORT": "1", "RATE_LIMIT_EXEMPT": "0/0 1; } daemon on;"}, tmp_path)


def test_the_configuration_is_written_only_when_it_changes(program: Program, state: State) -> None:
    """A reload tells nginx only then."""
    ours = Edge.of(program, state, service_account())
    environment = {"PORT": "8000"}

    assert ours.configure(Options.read({}), environment, state.path) is True
    assert ours.configure(Options.read({}), environment, state.path) is False
    assert ours.configure(Options.read({"TRUSTED_PROXIES": "1"}), environment, state.path) is True


# --- which lane


@pytest.mark.parametrize(
    ("method", "path", "lane"),
    [
        ("GET", "/", "express"),
        ("GET", "/sales/lamp-1/", "express"),
        ("GET", "/sales/lamp-1/state", "express"),
        ("GET", "/sales/lamp-1/mine", "express"),
        ("POST", "/sales/lamp-1/ticket", "express"),
        ("POST", "/sales/lamp-1/buy", "express"),
        ("GET", "/reservations/7-abc", "express"),
        ("GET", "/orders/", "pages"),
        ("POST", "/orders/1/pay", "pages"),
        ("POST", "/payments/callback", "pages"),
        ("GET", "/admin/", "pages"),
        ("GET", "/sales/lamp-1/other", "pages"),
        ("GET", "/sales/lamp%201/state", "pages"),
        ("GET", "/static/is-not-there.css", "pages"),
        ("GET", "/_edge/BUSY-2.en.html", "pages"),
    ],
)
def test_a_path_has_its_lane(edged: EdgedLanes, method: str, path: str, lane: str) -> None:
    """The few requests of a spike go to the express lane, all others to Django's."""
    answer = edged.ask(path, method, body=b"{}" if method == "POST" else None)

    assert answer.status == 200
    assert answer.said["lane"] == lane


# --- what the lanes are told, and what every answer carries


def test_the_arrival_is_stamped(edged: EdgedLanes) -> None:
    """Whatever a client says of it: seconds with thousandths, as the door reads them."""
    before = now_ms()
    told = edged.ask("/orders/", X_Request_Start="t=1").said["headers"]["HTTP_X_REQUEST_START"]
    stamped = re.fullmatch(r"t=(\d+)\.(\d{3})", told)

    assert stamped
    assert before - 1_000 <= int(stamped[1] + stamped[2]) <= now_ms() + 1_000


@pytest.mark.parametrize("offered", ["a-decent_one", "x" * 64])
def test_a_decent_request_id_is_kept(edged: EdgedLanes, offered: str) -> None:
    """The lane is told the same as the client."""
    answer = edged.ask("/orders/", X_Request_Id=offered)

    assert answer.header("X-Request-Id") == offered
    assert answer.said["headers"]["HTTP_X_REQUEST_ID"] == offered


@pytest.mark.parametrize("offered", ["", "short", "x" * 65, "with blank1", "<script>alert", "a,b,c,d,e,f"])
def test_an_indecent_request_id_is_replaced(edged: EdgedLanes, offered: str) -> None:
    """As in shop/middleware.py."""
    answer = edged.ask("/orders/", X_Request_Id=offered)

    assert re.fullmatch("[0-9a-f]{32}", answer.header("X-Request-Id"))
    assert answer.said["headers"]["HTTP_X_REQUEST_ID"] == answer.header("X-Request-Id")


def test_a_kept_answer_has_an_id_of_its_own(edged: EdgedLanes) -> None:
    """Two requests are two, also when they got the same bytes."""
    ids = {edged.ask("/").header("X-Request-Id") for _ in range(10)}
    assert len(ids) == 10


@pytest.mark.parametrize(
    "path", ["/", "/sales/a/", "/sales/a/state", "/orders/", "/sales/broken/", "/static/style.css", "/static/no"]
)
def test_the_clock_is_on_every_answer_once(edged: EdgedLanes, path: str) -> None:
    """nginx's own clock, also on what was kept, and never beside the lane's."""
    (edged.static / "style.css").write_text("p {}")
    for _ in range(2):
        answer = edged.ask(path)
        assert len(answer.all("X-Server-Now-Ms")) == len(answer.all("X-Request-Id")) == 1
        assert abs(int(answer.header("X-Server-Now-Ms")) - now_ms()) < 5_000


@pytest.mark.parametrize("lie", ["6.6.6.6", "6.6.6.6, 7.7.7.7", "127.0.0.1", "x" * 500, ","])
def test_a_lie_about_the_address_is_dropped(edged: EdgedLanes, lie: str) -> None:
    """The limits see who is connected, whatever X-Forwarded-For says."""
    told = edged.ask("/orders/", X_Forwarded_For=lie).said["headers"]["HTTP_X_FORWARDED_FOR"]

    assert told == "127.0.0.1"
    with override_settings(TRUSTED_PROXIES=1):
        assert str(limits.address_of({"HTTP_X_FORWARDED_FOR": told, "REMOTE_ADDR": ""})) == "127.0.0.1"


@pytest.mark.parametrize(
    "forwarded", ["", "6.6.6.6", "6.6.6.6, 7.7.7.7", "6.6.6.6,7.7.7.7,8.8.8.8", "2001:db8::1, 7.7.7.7"]
)
@pytest.mark.parametrize("proxies", [1, 2, 3])
def test_the_client_is_found_behind_proxies_as_the_limits_find_it(proxies: int, forwarded: str) -> None:
    """The pattern that nginx gets, against `address_of` with as many trusted proxies."""
    pattern = edge._client_pattern(proxies).replace("(?<", "(?P<")
    found = re.search(pattern, forwarded)
    environ = {"HTTP_X_FORWARDED_FOR": forwarded, "REMOTE_ADDR": "127.0.0.1"}

    with override_settings(TRUSTED_PROXIES=proxies):
        assert (found["said"] if found else "127.0.0.1") == str(limits.address_of(environ))


def test_behind_a_proxy_the_client_is_whom_it_names(program: Program, state: State) -> None:
    """With TRUSTED_PROXIES=1 the last entry counts, and the lanes are told that one alone."""
    edged = EdgedLanes(program, state, TRUSTED_PROXIES="1")
    try:
        answer = edged.ask("/orders/", X_Forwarded_For="6.6.6.6, 203.0.113.9")
        assert answer.said["headers"]["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"
        assert edged.ask("/orders/").said["headers"]["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    finally:
        edged.stop()


# --- the language

ACCEPTED = [
    *("", "en", "zh", "zh-CN", "zh-TW", "zh-Hant-HK", "zh-hans", "fr", "zho", "eng", "*", "xx-yy"),
    *("zh-CN,zh;q=0.9,en;q=0.8", "en-US,en;q=0.9,zh-CN;q=0.8", "en-US,en;q=0.5", "fr-FR,fr;q=0.9,en;q=0.8"),
    *("ja,zh-CN;q=0.9,en;q=0.8", "ja,en;q=0.8,zh-CN;q=0.9", "fr,zh;q=0.1", "fr;q=0.2,zh;q=0.1", "zh;q=0,fr"),
    *("zh;q=0.5,en;q=0.7", "en;q=0.5,zh;q=0.7", "*,zh", "fr,*;q=0.5,zh;q=0.9", "zh,*", "en;q=0,zh"),
    *("zh;q=1,en", "zh;q=1.0,en;q=1.000", "zh ; q=0.5 , en", "ZH-cn,EN", "zh,", ",zh", "zh,,en", "zh en", "zh;q=2"),
    *(
        "zh;q=0.1234,en",
        "zh;en",
        "z h",
        "zh_CN",
        "zh-",
        "zh-toolongsubtag",
        "toolonglanguage,zh",
        "zh\xa0,en",
        "zh\t,en",
    ),
    *("en," * 180 + "zh", "fr," * 180 + "zh", "zh" + ",fr" * 180, "e" * 600),
]
COOKIES = [
    *("lang=en", "lang=zh-hans", "lang=zh", "lang=zh-CN", "lang=fr", "lang=", "lang", 'lang="zh-hans"', "LANG=zh-hans"),
    *("a=1; lang=zh-hans; b=2", "slang=zh-hans", "lang=en; lang=zh-hans", "lang=zh-hans;lang=en", "x=lang=zh-hans"),
    *(
        "buyer=abc; sessionid=def",
        "lang =zh-hans",
        "lang= zh-hans",
        "lang=zh-hans ; a=1",
        "a=b;lang=zh-hans",
        "\xa0lang=zh-hans",
    ),
]


@pytest.mark.parametrize("cookie", ["", *COOKIES])
@pytest.mark.parametrize("accepted", ["", "zh-CN,zh;q=0.9", "en-US,en;q=0.9"])
def test_the_cookie_counts_as_it_does_for_django(edged: EdgedLanes, cookie: str, accepted: str) -> None:
    """What the lane is told in place of both leads Django to the same language."""
    assert_same_language(edged, cookie, accepted)


def test_the_language_is_the_one_that_django_finds(edged: EdgedLanes) -> None:
    """For what browsers send, what nobody sends, and what chance puts together."""
    chance = random.Random(int(os.environ["SEED"]))
    parts = [
        "en",
        "zh",
        "zh-CN",
        "en-GB",
        "fr",
        "*",
        "de-AT",
        ";q=0.5",
        ";q=0",
        ";q=1",
        ";q=0.85",
        ",",
        ", ",
        " ",
        "-",
        "@",
    ]
    made_up = ["".join(chance.choices(parts, k=chance.randint(1, 9))) for _ in range(MADE_UP)]

    for accepted in [*ACCEPTED, *made_up]:
        assert_same_language(edged, "", accepted)


def assert_same_language(edged: EdgedLanes, cookie: str, accepted: str) -> None:
    """Asks for a page of its own, so that nothing is kept of an earlier request with another header."""
    headers = {"Cookie": cookie} if cookie else {}
    headers |= {"Accept_Language": accepted} if accepted else {}
    told = edged.ask(f"/sales/of-{time.monotonic_ns()}/", **headers).said["headers"]

    assert django_finds(told.get("HTTP_COOKIE", ""), told.get("HTTP_ACCEPT_LANGUAGE", "")) == django_finds(
        cookie, accepted
    ), (cookie, accepted, told)


def django_finds(cookie: str, accepted: str) -> str:
    """Behind granian, which shows an application nothing of a header that is not ASCII."""
    request = HttpRequest()
    request.COOKIES = parse_cookie(cookie if cookie.isascii() else "")
    request.META["HTTP_ACCEPT_LANGUAGE"] = accepted.strip() if accepted.isascii() else ""
    return translation.get_language_from_request(request)


def test_most_browsers_are_served_from_the_cache(edged: EdgedLanes) -> None:
    """Only an order of languages that has to be computed is asked about each time."""
    for accepted in ("zh-CN,zh;q=0.9,en;q=0.8", "en-US,en;q=0.9,zh-CN;q=0.8", "fr-FR,fr;q=0.9,en;q=0.8", "ja,zh;q=0.5"):
        told = edged.ask(f"/sales/of-{time.monotonic_ns()}/", Accept_Language=accepted).said["headers"]
        assert told["HTTP_ACCEPT_LANGUAGE"] in ("en", "zh-hans")


# --- the micro-cache


def numbers(edged: EdgedLanes, path: str, times: int) -> set[str]:
    """The numbers of the answers, one for each time that a lane was asked; no two readers send the same cookie."""
    mine = [f"sessionid={time.monotonic_ns()}" for _ in range(times)]
    return {edged.ask(f"{path}?{own}", Cookie=own).said["number"] for own in mine}


@pytest.mark.parametrize("path", ["/", "/sales/lamp/", "/sales/lamp/state"])
def test_a_page_is_asked_for_once_a_second(edged: EdgedLanes, path: str) -> None:
    """Whatever the query and the cookies of those who read it."""
    start = int(time.time())
    asked = numbers(edged, path, ASKED)
    seconds_begun = int(time.time()) - start + 1

    assert len(asked) <= seconds_begun + 1
    assert eventually(lambda: not numbers(edged, path, 1) & asked)  # and it does not stay


def test_nobody_waits_for_the_next_page(edged: EdgedLanes) -> None:
    """When the second is over, whoever comes first gets the old page once more; meanwhile the new one is fetched."""
    before = edged.ask("/sales/lamp/")
    stale = eventually(lambda: edged.ask("/sales/lamp/").header("X-Cache") == "STALE")

    assert stale
    assert eventually(lambda: edged.ask("/sales/lamp/").header("X-Cache") == "HIT")
    assert edged.ask("/sales/lamp/").said["number"] != before.said["number"]


def test_nothing_of_the_reader_reaches_what_is_kept(edged: EdgedLanes) -> None:
    """The lane sees no cookie: the answer could not be somebody's own if it wanted to."""
    told = edged.ask(f"/sales/own-{time.monotonic_ns()}/", Cookie="buyer=me; sessionid=mine").said["headers"]
    assert "HTTP_COOKIE" not in told


@pytest.mark.parametrize("path", ["/sales/baker/", "/sales/private/", "/sales/broken/", "/sales/lamp/mine", "/orders/"])
def test_what_is_somebodys_own_or_an_error_is_not_kept(edged: EdgedLanes, path: str) -> None:
    """Set-Cookie, no-store, 503, and all that is not named: each request is asked about."""
    assert len(numbers(edged, path, 5)) == 5


def test_languages_encodings_and_hosts_do_not_mix(edged: EdgedLanes) -> None:
    """Each has an answer of its own."""
    path = f"/sales/mix-{time.monotonic_ns()}/"
    asked: list[dict[str, str]] = [
        {},
        {"Accept_Language": "zh"},
        {"Accept_Encoding": "gzip"},
        {"Accept_Language": "zh", "Accept_Encoding": "gzip"},
        {"Host": "another.example"},
    ]
    for headers in asked:
        told = edged.ask(path, **headers).said["headers"]
        assert told["HTTP_ACCEPT_LANGUAGE"] == ("zh-hans" if "Accept_Language" in headers else "en")
        assert told.get("HTTP_ACCEPT_ENCODING", "") == headers.get("Accept_Encoding", "")
        assert told["HTTP_HOST"] == headers.get("Host", HOST)


@pytest.mark.parametrize(
    "encoding",
    ["gzip", "GZIP", "gzip, deflate, br", "br;q=1, gzip;q=0.5", "gzip;q=0", "gzip; q=0.0, br", "x-gzip", "br", "*"],
)
def test_gzip_is_read_as_the_view_reads_it(edged: EdgedLanes, encoding: str) -> None:
    """One spelling is left of all."""
    told = edged.ask(f"/sales/zip-{time.monotonic_ns()}/", Accept_Encoding=encoding).said["headers"]
    assert told.get("HTTP_ACCEPT_ENCODING", "") == ("gzip" if _TAKES_GZIP.search(encoding) else "")


def test_who_has_the_page_hears_304(edged: EdgedLanes) -> None:
    """From nginx, without a body, with the clock and with the lane's own word about caching."""
    answer = edged.ask("/sales/lamp/", If_None_Match='W/"of-this-page"')

    assert (answer.status, answer.body) == (304, b"")
    assert answer.header("Cache-Control") == "no-cache"
    assert answer.header("X-Server-Now-Ms")


def test_orders_to_the_cache_stay_inside(edged: EdgedLanes) -> None:
    """What nginx tells itself is nothing for clients."""
    answer = edged.ask("/sales/lamp/state")

    assert answer.header("Cache-Control") == "no-cache"
    assert not answer.header("X-Accel-Expires")
    assert not answer.header("X-Cache-Control")
    assert not answer.header("X-Refused-By")


# --- files


def test_files_are_served_without_python(edged: EdgedLanes) -> None:
    """For ever under a name with a hash, for a minute under another, compressed for those who take it."""
    style = b"p { color: red }\n" * 100
    (edged.static / "shop.0123456789ab.css").write_bytes(style)
    (edged.static / "shop.0123456789ab.css.gz").write_bytes(gzip.compress(style))
    (edged.static / "plain.js").write_text("1;")

    hashed = edged.ask("/static/shop.0123456789ab.css", Accept_Encoding="gzip")
    plain = edged.ask("/static/plain.js")

    assert gzip.decompress(hashed.body) == style
    assert hashed.header("Content-Type") == "text/css; charset=utf-8"
    assert hashed.header("Cache-Control") == "max-age=315360000, public, immutable"
    assert hashed.header("X-Content-Type-Options") == "nosniff"
    assert plain.header("Content-Type") == "text/javascript; charset=utf-8"
    assert plain.header("Cache-Control") == "max-age=60, public"


@pytest.mark.parametrize(
    "path", ["/static/../secrets", "/static/..%2fsecrets", "/static/%2e%2e/secrets", "/static//etc/passwd"]
)
def test_nothing_beside_the_static_folder_is_served(edged: EdgedLanes, path: str) -> None:
    """Such an address is no file, and Django says so."""
    (edged.state.path / "secrets").write_text("TICKET_KEYS=none-of-yours")
    answer = edged.ask(path)

    assert b"none-of-yours" not in answer.body
    assert answer.status in (200, 400)
    assert answer.status == 400 or answer.said["lane"] == "pages"


# --- bad input: nginx answers it in the shop's words

GOOD = f"Host: {HOST}\r\nConnection: close\r\n"
REFUSED = {
    "no request at all": ("GARBAGE\r\n\r\n", 400, "INVALID"),
    "no host": ("GET / HTTP/1.1\r\n\r\n", 400, "INVALID"),
    "two lengths": (
        f"POST /sales/a/buy HTTP/1.1\r\n{GOOD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
        "INVALID",
    ),
    "a length that is none": (f"POST /sales/a/buy HTTP/1.1\r\n{GOOD}Content-Length: -1\r\n\r\n", 400, "INVALID"),
    "length and chunks": (
        f"POST /sales/a/buy HTTP/1.1\r\n{GOOD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "INVALID",
    ),
    "a NUL": (f"GET /%00 HTTP/1.1\r\n{GOOD}\r\n", 400, "INVALID"),
    "a method of nobody's": (f"TRACE / HTTP/1.1\r\n{GOOD}\r\n", 405, "METHOD"),
    "a long address": (f"GET /{'a' * 9_000} HTTP/1.1\r\n{GOOD}\r\n", 414, "TOO_LARGE"),
    "a long header": (f"GET / HTTP/1.1\r\n{GOOD}X-Long: {'a' * 9_000}\r\n\r\n", 431, "TOO_LARGE"),
    "many headers": (
        f"GET / HTTP/1.1\r\n{GOOD}" + "X-Many: 0123456789abcdef0123456789abcdef\r\n" * 1_000 + "\r\n",
        431,
        "TOO_LARGE",
    ),
    "a click of 10 MB": (f"POST /sales/a/buy HTTP/1.1\r\n{GOOD}Content-Length: 10000000\r\n\r\n", 413, "TOO_LARGE"),
    "a form of 10 MB": (f"POST /accounts/login/ HTTP/1.1\r\n{GOOD}Content-Length: 10000000\r\n\r\n", 413, "TOO_LARGE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_the_shops_words(edged: EdgedLanes, what: str) -> None:
    """As JSON, with the headers of every answer, and without asking a lane."""
    request, status, word = REFUSED[what]

    answer = edged.raw(request.encode())

    assert (answer.status, answer.said["outcome"]) == (status, word)
    assert set(answer.said) == {"outcome", "detail"}
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("X-Refused-By") == "edge"
    for name in ("X-Server-Now-Ms", "X-Request-Id", "X-Content-Type-Options", "Content-Security-Policy"):
        assert answer.header(name)


def test_people_are_refused_in_their_language(edged: EdgedLanes) -> None:
    """A page for a browser, in what it speaks."""
    body = b"x" * 5_000
    answer = edged.ask("/sales/a/buy", "POST", body, Accept="text/html", Accept_Language="zh-CN")

    assert answer.status == 413
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    with translation.override("zh-hans"):
        assert str(words.WORDS["TOO_LARGE"].title) in answer.body.decode()


def test_every_file_that_nginx_names_is_written(edged: EdgedLanes) -> None:
    """In each language, as a page and as JSON that says word and sentence."""
    text = edged.edge.configuration.read_text()
    named = set(re.findall(r"/_edge/([A-Z_]+)\.", text)) | {"UNKNOWN"}
    waits = set(re.findall(r"^\s+(?:\d+%|\*) (\d+);", text, re.MULTILINE))
    named |= {f"{word}-{wait}" for word in ("BUSY", "BUSY_POST") for wait in waits}

    assert {int(wait) for wait in waits} == set(edge_pages.WAIT_SECONDS)
    for name in named:
        for language in ("en", "zh-hans"):
            assert b"<html" in (edged.edge.pages / f"{name}.{language}.html").read_bytes()
            said = json.loads((edged.edge.pages / f"{name}.{language}.json").read_bytes())
            assert set(said) == {"outcome", "detail"}


def test_who_asks_too_much_is_told_to_slow_down(program: Program, state: State) -> None:
    """429 for everybody but the exempt, with the seconds; the lanes hear nothing of it."""
    changed = {"rate=2000r/s": "rate=1r/m", "burst=4000": "burst=1"}
    edged = EdgedLanes(program, state, changed, RATE_LIMIT_EXEMPT="203.0.113.0/24", TRUSTED_PROXIES="1")
    try:
        answers = [edged.ask("/orders/", X_Forwarded_For="192.0.2.7") for _ in range(5)]
        exempt = [edged.ask("/orders/", X_Forwarded_For="203.0.113.5") for _ in range(5)]
    finally:
        edged.stop()

    assert [answer.status for answer in answers] == [200, 200, 429, 429, 429]
    assert answers[-1].said["outcome"] == "SLOW_DOWN"
    assert answers[-1].header("Retry-After") == "2"
    assert {answer.status for answer in exempt} == {200}


def test_a_slow_client_is_cut_and_no_lane_hears_of_it(program: Program, state: State) -> None:
    """Headers that trickle in, and a body that never comes: the connection is closed, others are served."""
    changed = {
        "client_header_timeout 10s": "client_header_timeout 1s",
        "client_body_timeout 10s": "client_body_timeout 1s",
    }
    edged = EdgedLanes(program, state, changed)
    halves = [
        f"GET /orders/ HTTP/1.1\r\nHost: {HOST}\r\n",
        f"POST /sales/a/buy HTTP/1.1\r\n{GOOD}Content-Length: 100\r\n\r\n{{",
    ]
    try:
        before = int(edged.ask("/orders/").said["number"].partition("-")[2])
        for half in halves:
            with socket.create_connection(("127.0.0.1", edged.port), timeout=20) as connection:
                connection.sendall(half.encode())
                assert ended(connection)
        after = int(edged.ask("/orders/").said["number"].partition("-")[2])
    finally:
        edged.stop()
    assert after == before + 1


def ended(connection: socket.socket) -> bool:
    """The other side has closed, without an answer or after a refusal."""
    try:
        received = connection.recv(65_536)
    except ConnectionResetError:
        return True
    return received == b"" or b" 408 " in received.split(b"\r\n")[0]


# --- deaths


def kill(edged: EdgedLanes, lane: str) -> None:
    """Lane and worker, as a machine would that runs out of memory."""
    os.killpg(edged.supervisor.pid(lane), signal.SIGKILL)


def test_while_the_express_lane_is_dead_the_other_takes_the_clicks(mortal: EdgedLanes) -> None:
    """Without an error in between; the pages lane's own death is Django's, and only Django's."""
    kill(mortal, "express")
    eventually(lambda: mortal.ask("/sales/a/mine").said["lane"] == "pages")

    answers = [mortal.ask("/sales/a/buy", "POST", b"{}") for _ in range(5)]

    assert {(answer.status, answer.said["lane"]) for answer in answers} == {(200, "pages")}
    assert mortal.ask("/sales/b/state").said["lane"] == "pages"


def test_while_the_pages_lane_is_dead_buying_goes_on(mortal: EdgedLanes) -> None:
    """Other pages are busy, and say so at once."""
    kill(mortal, "pages")
    eventually(lambda: mortal.ask("/orders/").status == 503)

    assert mortal.ask("/sales/a/buy", "POST", b"{}").said["lane"] == "express"
    assert mortal.ask("/orders/").said["outcome"] == "BUSY"


def test_when_both_lanes_are_dead_the_busy_page_is_left(mortal: EdgedLanes) -> None:
    """503 for everybody, in their language, with a time to come back; what was kept serves for two seconds at most."""
    assert mortal.ask("/sales/a/").status == 200
    for lane in ("express", "pages"):
        kill(mortal, lane)

    assert eventually(lambda: mortal.ask("/sales/a/").status == 503)

    for path in ("/", "/sales/a/", "/orders/"):
        page = mortal.ask(path, Accept="text/html", Accept_Language="zh-CN")
        assert (page.status, page.header("Cache-Control")) == (503, "no-store")
        assert int(page.header("Retry-After")) in edge_pages.WAIT_SECONDS
        assert page.header("X-Refused-By") == "edge"
        assert 'lang="zh-hans"' in page.body.decode()
        assert len(page.all("X-Server-Now-Ms")) == 1
    click = mortal.ask("/sales/a/buy", "POST", b"{}")
    assert (click.status, click.said["outcome"]) == (503, "BUSY")
    (mortal.static / "style.css").write_text("p {}")
    assert mortal.ask("/static/style.css").status == 200


@pytest.mark.parametrize(("path", "word"), [("/sales/dies/buy", "UNKNOWN"), ("/orders/dies/pay", "UNKNOWN")])
def test_a_click_that_was_sent_when_the_lane_died_is_unknown(mortal: EdgedLanes, path: str, word: str) -> None:
    """It may have been carried out: nobody sends it twice, and nobody says that nothing was sent."""
    if path.startswith("/orders/"):
        path = "/sales/dies/pay"  # of the pages lane
    answer = mortal.ask(path, "POST", b"{}")

    assert (answer.status, answer.said["outcome"]) == (503, word)
    assert answer.header("Retry-After") == "2"


def test_a_read_that_was_sent_when_the_lane_died_is_asked_of_the_other(mortal: EdgedLanes) -> None:
    """Reading twice is safe; here both die of it, one after the other, and the reader hears that we are busy."""
    answer = mortal.ask("/sales/dies/mine")
    assert (answer.status, answer.said["outcome"]) == (503, "BUSY")


def test_a_killed_nginx_is_back_on_its_port(mortal: EdgedLanes) -> None:
    """Its workers go with it, and the sockets that it has left are in nobody's way."""
    pid = mortal.supervisor.pid("edge")

    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: looked_after(mortal.supervisor, "edge") not in (None, pid))

    assert eventually(lambda: answers(mortal))


def looked_after(supervisor: Supervisor, name: str) -> int | None:
    """One look of the supervisor at all that runs."""
    for post in list(supervisor._posts()):
        supervisor._look_after(post)
    try:
        return supervisor.pid(name)
    except KeyError:
        return None


def answers(edged: EdgedLanes) -> bool:
    try:
        return edged.ask("/orders/").status == 200
    except OSError:
        return False
