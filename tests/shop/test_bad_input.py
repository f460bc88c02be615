"""Whatever is sent: a refusal in the documented shape, no traceback, and nothing changed; through both lanes the same.

Each row says what is wrong, and the word that must be the answer. A script gets JSON, a person a page that says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from django.test import Client

from shop import buyers
from shop.express import route
from shop.models import Offer, Sale
from shop.words import WORDS
from tests.shop import clicks
from tests.shop.clicks import JSON, PAGE
from tests.shop.doors import ThroughExpress, shown

TICKET, BUY = "/sales/{sale}/ticket", "/sales/{sale}/buy"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
DEEP = 100_000


@dataclass(frozen=True)
class Row:
    """A request that makes no sense. `{sale}`, `{offer}`, `{other}` and `{ticket}` are filled in, in path and body."""

    name: str
    word: str
    path: str = BUY
    body: str | bytes = b""
    method: str = "POST"
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    environ: dict[str, Any] = field(default_factory=dict)


def _units(name: str, spelled: str) -> Row:
    """Units as a JSON value."""
    return Row(f"units {name} in JSON", "INVALID", body=f'{{"ticket": "{{ticket}}", "units": {spelled}}}')


def _form_units(name: str, spelled: str) -> Row:
    return Row(f"units {name} in a form", "INVALID", body=f"ticket={{ticket}}&units={spelled}", kind=FORM)


def _offer(name: str, spelled: str, word: str = "INVALID", path: str = TICKET) -> Row:
    return Row(f"offer {name}", word, path, f'{{"offer": {spelled}, "ticket": "{{ticket}}"}}')


def _ticket(name: str, spelled: str, word: str = "TICKET_REFUSED") -> Row:
    return Row(f"ticket {name}", word, body=f'{{"ticket": {spelled}, "units": 1}}')


def _bytes(name: str, body: bytes, word: str = "INVALID", kind: str = "application/json") -> Row:
    return Row(name, word, body=body, kind=kind)


UNITS = [
    *(_units(f"number {value}", value) for value in ("0", "-1", "1.5", "1.0", "1e3", "NaN", "Infinity", "-Infinity")),
    *(_units(f"number {value}", value) for value in ("9" * 20, "1" + "0" * 3000, "1000001", "0x10", "01", "+1")),
    *(_units(f"string {value!r}", json.dumps(value)) for value in ("0", "-1", "nan", "inf", "1e3", "0x10", "1.5")),
    *(_units(f"string {value!r}", json.dumps(value)) for value in (" 1", "1 ", "1\n", "٣", "１", "²", "9" * 20, "1_0")),
    *(
        _units(f"string {value!r}", json.dumps(value))
        for value in ("", "01", "+1", "\0", "1\0", "one", "\u202e1", "😀")
    ),
    *(_units(value, value) for value in ("null", "true", "false", "[1]", "[]", "{}", '{"$gt": 0}')),
    *(
        _form_units(repr(value), value)
        for value in ("0", "-1", "nan", "1e3", "0x10", "1.5", "+1", "%201", "1%0A", "1%00")
    ),
    *(
        _form_units(repr(value), value)
        for value in ("%D9%A3", "9" * 20, "true", "01", "", "1%0D%0ASet-Cookie:x", "%FF")
    ),
]

OFFERS = [
    *(_offer(value, value) for value in ("-1", "0", str(2**63), str(2**64), "1.5", "true", "null", "[]", '"1 OR 1=1"')),
    *(_offer(f"{value} of a purchase", value, path=BUY) for value in ("-1", str(2**63), "null", '"\\u0000"')),
    _offer("of another sale", "{other}", "NOT_FOUND"),
    _offer("of another sale in a purchase", "{other}", "MISMATCH", BUY),
    _offer("that never was", str(2**63 - 1), "NOT_FOUND"),
]

TICKETS = [
    Row("no ticket", "TICKET_REFUSED", body="{}"),
    Row("no body", "TICKET_REFUSED", kind=""),
    Row("no ticket in a form", "TICKET_REFUSED", body="units=1", kind=FORM),
    *(_ticket(value, value, "INVALID") for value in ("null", "1", "true", '["{ticket}"]', '{"$ne": null}')),
    _ticket("that is empty", '""'),
    _ticket("with a NUL", '"{ticket}\\u0000"'),
    _ticket("with a newline", '"{ticket}\\n"'),
    _ticket("with padding", '"{ticket}="'),
    _ticket("of emoji", json.dumps("😀" * 90)),
    _ticket("of a lone surrogate", '"\\ud800"'),
    _ticket("with bidi", '"\\u202e{ticket}"'),
    _ticket("of 3000 letters", json.dumps("A" * 3000)),
    _ticket("of the path kind", '"../../{ticket}"'),
    Row("ticket twice in a form", "INVALID", body="ticket={ticket}&ticket=", kind=FORM),
]

BODIES = [
    _bytes("a body of 10 MB", b" " * 10_000_000, "TOO_LARGE"),
    _bytes("a form of 10 MB", b"a=" + b"b" * 10_000_000, "TOO_LARGE", FORM),
    _bytes("a body one byte too large", b'{"units": 1}' + b" " * 4085, "TOO_LARGE"),
    _bytes("deep JSON", b"[" * DEEP, "TOO_LARGE"),
    _bytes("deep JSON that fits", b"[" * 4000),
    _bytes("deep objects that fit", b'{"a":' * 800),
    _bytes("half a JSON", b'{"ticket": "'),
    _bytes("two JSONs", b"{}{}"),
    Row("an empty JSON body", "INVALID", environ={"CONTENT_TYPE": "application/json"}),
    _bytes("invalid UTF-8", b'{"ticket": "\xff\xfe"}'),
    _bytes("an overlong NUL", b'{"ticket": "\xc0\x80"}'),
    _bytes("a byte order mark", b'\xef\xbb\xbf{"units": 1}'),
    _bytes("UTF-16", '{"units": 1}'.encode("utf-16")),
    _bytes("UTF-32", '{"units": 1}'.encode("utf-32-be")),
    _bytes("a NUL byte", b'{"units": 1}\0'),
    _bytes("a raw newline in a string", b'{"ticket": "\n"}'),
    _bytes("a name that comes twice", b'{"units": 1, "units": 2}'),
    _bytes("a name that comes twice, deep inside", b'{"a": {"b": 1, "b": 1}}'),
    *(
        _bytes(f"JSON {body.decode()}", body)
        for body in (b"[]", b'"ticket"', b"1", b"null", b"true", b"NaN", b'[["units", 1]]')
    ),
    *(_bytes(f"the kind {kind}", b"units=1", "UNSUPPORTED", kind) for kind in ("text/plain", "application/xml", "*/*")),
    *(
        _bytes(f"the kind {kind!r}", b"x", "UNSUPPORTED", kind)
        for kind in ("", "json", "x" * 500, "application/json/x")
    ),
    _bytes("gzip that calls itself JSON", b"\x1f\x8b\x08\x00" + b"\0" * 100),
    _bytes("a form in UTF-16", "units=1".encode("utf-16"), "INVALID", f"{FORM}; charset=utf-16"),
    _bytes("a form of 1500 fields", b"&".join([b"a"] * 1500), "INVALID", FORM),
    _bytes("multipart without a boundary", b"x", "INVALID", "multipart/form-data"),
    _bytes("multipart with a foreign boundary", b"--c\r\n\r\n", "TICKET_REFUSED", MULTIPART),
    _bytes("multipart with a bad boundary", b"x", "INVALID", "multipart/form-data; boundary=\x01é"),
    _bytes(
        "a ticket sent as a file",
        b'--b\r\nContent-Disposition: form-data; name="ticket"; filename="../x"\r\n\r\nx\r\n--b--\r\n',
        "TICKET_REFUSED",
        MULTIPART,
    ),
]

LENGTHS = [
    Row(f"Content-Length {value!r}", "INVALID", body="{}", environ={"CONTENT_LENGTH": value})
    for value in ("abc", "-5", "1e3", " 2", "٣", "+2", "2, 2", "9" * 5000)
]
LENGTHS += [
    Row("Content-Length too short", "INVALID", body='{"units": 1}', environ={"CONTENT_LENGTH": "5"}),
    Row("Content-Length of a gigabyte", "TOO_LARGE", body="{}", environ={"CONTENT_LENGTH": str(10**9)}),
]

ORIGINS = [
    Row(f"{name} on {path}", "CROSS_SITE", path, '{"ticket": "{ticket}"}', headers=headers)
    for path in (
        TICKET,
        BUY,
        "/orders/X/pay",
        "/orders/X/cancel",
        "/accounts/logout/",
        "/accounts/login/",
        "/language/",
    )
    for name, headers in (
        ("a foreign Origin", {"origin": "https://evil.example"}),
        ("Sec-Fetch-Site", {"sec-fetch-site": "cross-site"}),
    )
]
ORIGINS += [
    Row(f"Origin {value!r}", "CROSS_SITE", BUY, '{"ticket": "{ticket}"}', headers={"origin": value})
    for value in (
        *("null", "", "testserver", "https://testserver.evil.example", "https://testserver@evil.example"),
        *("https://evil.example/testserver", "http://testserver:8000", "http://[::1", "http://[x]/", "\x00", "é"),
    )
]
ORIGINS += [
    Row(f"Sec-Fetch-Site {value!r}", "CROSS_SITE", BUY, "{}", headers={"sec-fetch-site": value})
    for value in ("same-site", "CROSS-SITE", "nonsense", "")
]
ORIGINS += [
    Row(f"a foreign Host {host!r}", "INVALID", path, "{}", headers={"host": host})
    for host in ("evil.example", "testserver.evil.example", "test server", "a" * 5000, "[::1", "testserver:x", "\x00")
    for path in (BUY, "/sales/{sale}/state")
]

GET_ONLY = ("/", "/sales/{sale}/", "/sales/{sale}/state", "/sales/{sale}/mine", "/reservations/{name}", "/orders/")
GET_ONLY += ("/orders/ABC/", "/livez", "/readyz", "/metrics")
POST_ONLY = (TICKET, BUY, "/orders/ABC/pay", "/orders/ABC/cancel", "/payments/callback")
BOTH = ("/accounts/login/", "/accounts/logout/", "/accounts/signup/")
METHODS = [
    *(
        Row(f"{m} {path}", "METHOD", path, method=m)
        for path in GET_ONLY
        for m in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    ),
    *(
        Row(f"{m} {path}", "METHOD", path, method=m)
        for path in POST_ONLY
        for m in ("GET", "HEAD", "PUT", "DELETE", "TRACE")
    ),
    *(Row(f"{m} {path}", "METHOD", path, method=m) for path in BOTH for m in ("PUT", "PATCH", "DELETE", "BREW")),
]

PATHS = [
    Row(f"the path {path}", "NOT_FOUND", path, '{"ticket": "{ticket}"}', method=method)
    for method, path in (
        *(
            ("GET", f"/sales/{slug}/state")
            for slug in ("%00", "a%00b", "..%2f..%2fetc", "%ff%fe", "%", "%zz", "%25%30%30")
        ),
        *(
            ("GET", f"/sales/{slug}/")
            for slug in ("😀", "%E2%80%AE", "a%0d%0aSet-Cookie:x", "{{sale}}", "a b", "%c0%ae")
        ),
        *(
            ("GET", f"/reservations/{name}")
            for name in ("%00", "1-%00", "x:y", "{{o:1}}:units", "1-" + "A" * 23, "%ff", "😀")
        ),
        *(("GET", f"/reservations/{name}") for name in ("-1-" + "A" * 22, "0-" + "A" * 22, "9" * 19 + "-" + "A" * 22)),
        *(
            ("GET", f"/orders/{number}/")
            for number in ("%00", "A%00", "%ff", "😀", "a" * 2000, "' OR '1'='1", "%E2%80%AE")
        ),
        *(("POST", f"/orders/{number}/pay") for number in ("%00", "ABC", "%ff", "a" * 2000)),
        *(("POST", f"/orders/{number}/cancel") for number in ("%00", "ABC", "😀")),
        *(("POST", f"/sales/{slug}/buy") for slug in ("%00", "nothing", "%ff", "a" * 200)),
        *(("POST", f"/sales/{slug}/ticket") for slug in ("%00", "nothing", "-", "_")),
    )
]

HEADERS = [
    Row("a thousand headers", "TICKET_REFUSED", body="{}", headers={f"x-header-{n}": "x" for n in range(1000)}),
    Row("cookies of 60 kB", "SIGN_IN", body="{}", headers={"cookie": "a=b; " * 12_000}),
    Row("a broken cookie", "SIGN_IN", body="{}", headers={"cookie": '=;;;buyer="\\777\x00; buyer=x'}),
    Row("a cookie of JSON", "SIGN_IN", body="{}", headers={"cookie": 'buyer={"id": 1}'}),
    Row(
        "a forged session",
        "TICKET_REFUSED",
        body="{}",
        headers={"x-forwarded-for": "1, 2, 3" * 500, "range": "bytes=-1"},
    ),
]

ROWS = {
    "units": UNITS,
    "offers": OFFERS,
    "tickets": TICKETS,
    "bodies": BODIES,
    "lengths": LENGTHS,
    "origins": ORIGINS,
    "methods": METHODS,
    "paths": PATHS,
    "headers": HEADERS,
}


@pytest.fixture
def send(sale: Sale, make_sale: Callable[..., Sale], shopper: Client) -> Callable[[Row, dict[str, str]], Any]:
    """Send a row as a signed-in shopper with a good ticket, wanting JSON or a page; both lanes must answer the same."""
    other: Offer = make_sale().offers.get()
    known = {
        "{sale}": sale.slug,
        "{offer}": str(sale.offers.get().pk),
        "{other}": str(other.pk),
        "{ticket}": clicks.ticket(shopper, sale),
        "{name}": f"{other.pk}-{'A' * 22}",
    }
    cookie = shopper.cookies[buyers.COOKIE].value

    def fill(text: str) -> str:
        for name, value in known.items():
            text = text.replace(name, value)
        return text

    def send(row: Row, accept: dict[str, str]) -> Any:
        body = fill(row.body).encode() if isinstance(row.body, str) else row.body
        pages, express = Client(raise_request_exception=False), ThroughExpress(raise_request_exception=False)
        answers = []
        for client in (pages, express):
            client.cookies[buyers.COOKIE] = cookie
            answers.append(
                client.generic(
                    row.method, fill(row.path), body, row.kind, headers={**accept, **row.headers}, **row.environ
                )
            )
        assert shown(answers[1]) == shown(answers[0])
        if "host" not in row.headers and "%" not in row.path and route(fill(row.path)):
            assert express.last_lane == "express"
        return answers[0]

    return send


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_what_makes_no_sense_is_refused(
    rows: list[Row],
    send: Callable[[Row, dict[str, str]], Any],
    stock_redis: redis.Redis,
    subtests: pytest.Subtests,
) -> None:
    """Its word with its status, as JSON and as a page, with a name to ask about; not a row and not a counter moves."""
    before = clicks.everything(stock_redis)

    for row in rows:
        with subtests.test(row.name):
            script, person = send(row, JSON), send(row, PAGE)

            _is_a_refusal_for_a_script(row, script)
            _is_a_refusal_for_a_person(row, person)
            for answer in (script, person):
                assert answer["X-Request-Id"]
                assert answer["Cache-Control"] == "no-store"
            assert clicks.everything(stock_redis) == before


def _is_a_refusal_for_a_script(row: Row, answer: Any) -> None:
    assert answer.status_code == WORDS[row.word].status, answer.content
    if row.word == "METHOD":
        assert row.method not in answer["Allow"].split(", ")
    if row.method != "HEAD":
        body = answer.json()
        assert body.keys() == {"outcome", "detail"}
        assert (body["outcome"], bool(body["detail"])) == (row.word, True)
        assert "Traceback" not in body["detail"]


def _is_a_refusal_for_a_person(row: Row, answer: Any) -> None:
    if row.word == "SIGN_IN":
        assert answer.status_code == 303
        return
    assert answer.status_code == WORDS[row.word].status
    assert answer["Content-Type"].startswith("text/html")
    assert row.method == "HEAD" or f'data-outcome="{row.word}"' in answer.content.decode()


def test_rubbish_beside_a_good_request_is_ignored(sale: Sale, shopper: Client) -> None:
    """Fields nobody asked for, a query string, a thousand headers: the same answer as without them."""
    rubbish = "?offer=-1&a[]=%ff&%00=%00&" + "&".join(f"x{n}" for n in range(2000))
    for path in ("/", f"/sales/{sale.slug}/", f"/sales/{sale.slug}/state", f"/sales/{sale.slug}/mine", "/orders/"):
        plain, odd = shopper.get(path, headers=JSON), shopper.get(path + rubbish, headers=JSON)
        assert (odd.status_code, odd.content) == (200, plain.content)

    many = {f"x-header-{n}": "x" for n in range(1000)}
    fields = {
        "ticket": clicks.ticket(shopper, sale),
        "units": 1,
        "__proto__": {},
        "price": 1,
        "buyer": 1,
        "😀": "\u202e",
    }
    url = f"/sales/{sale.slug}/buy{rubbish}"
    assert shopper.post(url, fields, content_type="application/json", headers={**JSON, **many}).status_code == 202


def test_a_post_from_our_own_page_is_let_in(sale: Sale, shopper: Client) -> None:
    """Same host in Origin, or a browser that says so, or a program that says nothing."""
    for headers in (
        {},
        {"origin": "http://testserver"},
        {"origin": "http://testserver", "host": "testserver"},
        {"origin": "http://localhost:8000", "host": "localhost:8000", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        answer = shopper.post(f"/sales/{sale.slug}/ticket", headers={**JSON, **headers})
        assert answer.status_code == 200, headers


class HungUp:
    """The body of somebody who went away while sending it."""

    def read(self, *_: int) -> bytes:
        raise ConnectionResetError

    readline = read


@pytest.mark.parametrize("path", ["/sales/{sale}/buy", "/sales/{sale}/ticket", "/payments/callback"])
def test_a_sender_that_hangs_up_is_nobodys_fault(sale: Sale, shopper: Client, path: str) -> None:
    """INVALID to whoever still reads it, and not a 500 with a traceback for each lost phone."""
    answer = shopper.post(
        path.replace("{sale}", sale.slug),
        "units=1",
        content_type=FORM,
        headers=JSON,
        **{"wsgi.input": HungUp()},  # type: ignore[arg-type]
    )

    assert (answer.status_code, answer.json()["outcome"]) == (400, "INVALID")
