"""The payment provider as a shop meets it: a process of its own, spoken to over HTTP only.

The signature is computed here by hand: what the documentation says must be enough to talk to this company.
"""

import hashlib
import hmac
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.free_ports import free_port
from tests.servers import clean_environment

SECRET = "a secret of two companies"

#: Seconds until a condition must hold: far more than a healthy process needs on a busy machine.
PATIENCE_SECONDS = 8

keys = count(1)


def test_a_shopper_who_pays_comes_back_to_a_shop_that_knows(provider, shop):
    """The callback arrives, signed and complete, before the shopper is sent back."""
    charge = provider.charge(shop, reference="ORDER-7", amount_minor=129_900)

    answer = provider.pay(charge)

    assert (answer.status, answer.headers["Location"]) == (303, shop.url("/orders/7/"))
    [callback] = shop.callbacks
    assert callback.event.pop("event_id").startswith("ev_")
    assert abs(callback.event.pop("occurred_at_ms") - time.time() * 1000) < PATIENCE_SECONDS * 1000
    assert callback.event == {
        "type": "charge.succeeded",
        "charge": charge["id"],
        "reference": "ORDER-7",
        "amount_minor": 129_900,
        "currency": "CNY",
        "refund": None,
    }
    assert callback.is_signed()
    assert provider.get(f"/charges/{charge['id']}").json["state"] == "succeeded"


def test_a_declined_charge_is_told_and_stays_declined(provider, shop):
    """Nobody can pay what was declined; the page says so and leads back to the shop."""
    charge = provider.charge(shop)

    assert provider.decide(charge, "decline").status == 303
    second = provider.pay(charge)

    assert second.status == 409
    assert "declined" in second.text
    assert shop.url("/orders/7/") in second.text
    assert shop.types() == ["charge.failed"]
    assert provider.get(f"/charges/{charge['id']}").json["state"] == "failed"


def test_many_presses_of_pay_are_one_payment(provider, shop):
    """Eight presses in the same moment: one redirect, one callback."""
    charge = provider.charge(shop)

    with ThreadPoolExecutor(8) as presses:
        statuses = [answer.status for answer in presses.map(provider.pay, [charge] * 8)]

    assert sorted(statuses) == [303] + [409] * 7
    assert shop.types() == ["charge.succeeded"]


def test_an_expired_charge_cannot_be_paid(provider, shop):
    """Past its time a charge is expired for the shop and for the shopper, and nothing is told."""
    charge = provider.charge(shop, expires_at_ms=1)

    answer = provider.pay(charge)

    assert answer.status == 409
    assert "time to pay is over" in answer.text
    assert provider.get(f"/charges/{charge['id']}").json["state"] == "expired"
    assert shop.callbacks == []


def test_the_page_works_without_scripts_and_escapes_what_it_shows(provider, shop):
    """Amount, two buttons, nothing from elsewhere, and a reference is never markup."""
    charge = provider.charge(shop, reference="<b>7</b>", amount_minor=129_900)

    page = provider.send("GET", urlsplit(charge["pay_url"]).path)

    assert page.status == 200
    assert "CNY 1,299.00" in page.text
    assert "&lt;b&gt;7&lt;/b&gt;" in page.text
    assert 'value="pay"' in page.text
    assert 'value="decline"' in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_currency_without_cents_is_shown_without_cents(provider, shop):
    """The minor unit of the yen is the yen."""
    charge = provider.charge(shop, amount_minor=1299, currency="JPY")

    assert "JPY 1,299<" in provider.send("GET", f"/pay/{charge['id']}").text


def test_one_key_is_one_charge(provider, shop):
    """The same request again gives the same charge; the key with other values is refused."""
    request = charge_request(shop)

    first, second = provider.post("/charges", request), provider.post("/charges", request)
    other = provider.post("/charges", request | {"amount_minor": 1})

    assert (first.status, second.status, other.status) == (201, 200, 409)
    assert first.json == second.json
    assert first.json["state"] == "pending"
    assert first.json["pay_url"] == f"{provider.url}/pay/{first.json['id']}"
    assert provider.send("GET", "/").json == {"provider": "Example Pay", "charges": 1}


def test_a_refund_gives_back_what_is_left_and_no_more(provider, shop):
    """Parts may be refunded up to the whole, one key is one refund, and each is told by a callback."""
    charge = provider.charge(shop, amount_minor=1000)
    provider.pay(charge)
    part = {"charge": charge["id"], "amount_minor": 600, "idempotency_key": "part"}

    first, again = provider.post("/refunds", part), provider.post("/refunds", part)
    too_much = provider.post("/refunds", part | {"amount_minor": 401, "idempotency_key": "too much"})
    other = provider.post("/refunds", part | {"amount_minor": 1})
    rest = provider.post("/refunds", part | {"amount_minor": 400, "idempotency_key": "rest"})

    assert [answer.status for answer in (first, again, too_much, other, rest)] == [201, 200, 409, 409, 201]
    assert first.json == again.json
    assert first.json["state"] == "succeeded"
    assert provider.get(f"/charges/{charge['id']}").json["refunded_minor"] == 1000

    shop.wait_for(3)
    told = {callback.event["refund"]: callback.event["amount_minor"] for callback in shop.callbacks}
    assert told == {None: 1000, first.json["id"]: 600, rest.json["id"]: 400}
    assert shop.types().count("refund.succeeded") == 2


@pytest.mark.parametrize("decision", [None, "decline"])
def test_only_a_paid_charge_can_be_refunded(provider, shop, decision):
    """Neither a pending nor a declined charge has money to give back, and an unknown one does not exist."""
    charge = provider.charge(shop)
    if decision:
        provider.decide(charge, decision)
    refund = {"charge": charge["id"], "amount_minor": 1, "idempotency_key": "r"}

    assert provider.post("/refunds", refund).status == 409
    assert provider.post("/refunds", refund | {"charge": "ch_none"}).status == 404


def test_a_callback_waits_for_a_shop_that_is_down(provider, shop):
    """The shopper is sent back at once, and the shop hears of it, byte for byte, when it is there again."""
    charge = provider.charge(shop)
    shop.stop()
    assert provider.pay(charge).status == 303

    shop.start()

    shop.wait_for(1)
    assert shop.callbacks[0].is_signed()


def test_a_callback_is_repeated_until_it_is_accepted(provider, shop):
    """An error and a redirect are not a delivery; each try tells the same event under a valid signature."""
    shop.statuses = [500, 302]

    provider.pay(provider.charge(shop))

    shop.wait_for(3)
    assert len({callback.body for callback in shop.callbacks}) == 1
    assert all(callback.is_signed() for callback in shop.callbacks)


def test_a_shop_that_hangs_does_not_keep_its_shopper(provider, shop):
    """Two seconds are the most a shopper waits for the shop's answer to a callback."""
    shop.answers.clear()
    charge = provider.charge(shop)

    begun = time.monotonic()
    answer = provider.pay(charge)

    assert answer.status == 303
    assert 1.5 < time.monotonic() - begun < 5


def test_a_restart_forgets_nothing(provider, shop):
    """Killed in the middle: charges, keys, refunds and the callbacks that wait are all there again."""
    request = charge_request(shop, amount_minor=1000)
    paid, pending = provider.post("/charges", request).json, provider.charge(shop)
    provider.pay(paid)
    refund = {"charge": paid["id"], "amount_minor": 600, "idempotency_key": "r"}
    first = provider.post("/refunds", refund)
    shop.wait_for(2)
    shop.stop()
    provider.pay(pending)

    provider.stop(signal.SIGKILL)
    with (provider.state / "provider.jsonl").open("a") as journal:
        journal.write('{"charge": {"id": "torn by the cra')
    shop.start()
    provider.start()

    assert provider.post("/charges", request).json == paid | {"state": "succeeded", "refunded_minor": 600}
    assert provider.post("/refunds", refund).json == first.json
    assert provider.post("/refunds", refund | {"idempotency_key": "s"}).status == 409
    shop.wait_for(3)
    assert shop.callbacks[-1].event["charge"] == pending["id"]

    provider.stop(signal.SIGKILL)
    provider.start()
    assert provider.send("GET", "/").json["charges"] == 2


def test_after_an_hour_a_callback_is_given_up(provider, shop):
    """It is tried once more, in case the provider was away for that hour, and then never again."""
    charge = provider.charge(shop)
    shop.statuses = [500, 500]
    provider.pay(charge)
    provider.stop(signal.SIGKILL)
    journal = provider.state / "provider.jsonl"
    journal.write_text(re.sub(r'"occurred_at_ms": \d+', '"occurred_at_ms": 1', journal.read_text()))

    provider.start()

    wait_until(lambda: '"given up"' in journal.read_text())
    assert provider.get(f"/charges/{charge['id']}").json["state"] == "succeeded"


def test_two_processes_never_share_their_books(provider):
    """A second provider over the same journal ends at once instead of missing the other's lines."""
    second = Provider(provider.state)

    with pytest.raises(AssertionError, match="did not start"):
        second.start()


def test_it_stops_when_asked(provider):
    """TERM ends the process in order, with a connection still open."""
    connection = socket.create_connection(("127.0.0.1", provider.port))

    assert provider.stop(signal.SIGTERM) == 0

    connection.close()


def test_fault_slow(provider, shop):
    """Each answer of the API comes late, and its work is done all the same."""
    provider.set_faults(slow_ms=300)

    begun = time.monotonic()
    charge = provider.charge(shop)

    assert time.monotonic() - begun >= 0.3
    assert charge["state"] == "pending"


def test_fault_refuse(provider, shop):
    """The API is out of service until the fault is taken away; the pay page is not the API."""
    charge = provider.charge(shop)

    provider.set_faults(refuse=True)
    assert provider.post("/charges", charge_request(shop)).status == 503
    assert provider.get(f"/charges/{charge['id']}").status == 503
    assert provider.pay(charge).status == 303

    provider.set_faults()
    assert provider.post("/charges", charge_request(shop)).status == 201


def test_fault_repeat(provider, shop):
    """One event arrives as often as asked for, always under its one id."""
    provider.set_faults(repeat=10)

    provider.pay(provider.charge(shop))

    assert len(shop.callbacks) == 10
    assert len({callback.event["event_id"] for callback in shop.callbacks}) == 1


def test_fault_reorder(provider, shop):
    """A refund is heard of before the payment that it gives back."""
    provider.set_faults(reorder=True)
    charge = provider.charge(shop)

    provider.pay(charge)
    provider.post("/refunds", {"charge": charge["id"], "amount_minor": 1, "idempotency_key": "r"})

    shop.wait_for(2)
    assert shop.types() == ["refund.succeeded", "charge.succeeded"]


def test_fault_hold_callbacks(provider, shop):
    """The shopper is back long before the callback, which comes when the charge could have expired."""
    provider.set_faults(hold_callbacks_ms=700)
    charge = provider.charge(shop)

    provider.pay(charge)
    assert shop.callbacks == []

    shop.wait_for(1)
    event = shop.callbacks[0].event
    assert time.time() * 1000 - event["occurred_at_ms"] >= 700


def test_fault_drop_callbacks(provider, shop):
    """A dropped callback never comes, not even after a restart; asking for the charge tells the truth."""
    provider.set_faults(drop_callbacks=True)
    dropped = provider.charge(shop)
    provider.pay(dropped)

    provider.stop(signal.SIGTERM)
    provider.start()
    told = provider.charge(shop)
    provider.pay(told)

    assert [callback.event["charge"] for callback in shop.callbacks] == [told["id"]]
    assert provider.get(f"/charges/{dropped['id']}").json["state"] == "succeeded"


def test_faults_come_from_the_environment_too(provider, shop):
    """A provider may be started broken, and be healed while it runs."""
    provider.stop(signal.SIGTERM)
    provider.start(PROVIDER_FAULTS='{"refuse": true}')

    assert provider.send("GET", "/faults").json["refuse"] is True
    assert provider.post("/charges", charge_request(shop)).status == 503
    assert provider.set_faults()["refuse"] is False


@pytest.mark.parametrize(
    "faults",
    [{"slwo_ms": 1}, {"slow_ms": "1"}, {"slow_ms": True}, {"slow_ms": -1}, {"refuse": 1}, {"repeat": 0}, []],
)
def test_a_fault_that_does_not_exist_changes_nothing(provider, faults):
    """A misspelt or impossible fault is refused, and the faults stay as they were."""
    before = provider.set_faults(slow_ms=1)

    assert provider.post("/faults", faults).status == 400
    assert provider.send("GET", "/faults").json == before


@pytest.mark.parametrize("forge", ["", "t=1,v1=", "other secret", "old", "future", "other body"])
def test_a_wrong_signature_opens_nothing(idle_provider, shop, forge):
    """Absent, malformed, of another secret, too old, too new or for another body: 401 and no charge."""
    body = json.dumps(charge_request(shop)).encode()
    signature = {
        "other secret": signed(body, secret="guessed"),
        "old": signed(body, age_seconds=310),
        "future": signed(body, age_seconds=-310),
        "other body": signed(body + b" "),
    }.get(forge, forge)

    for path in ("/charges", "/refunds", "/faults"):
        assert idle_provider.send("POST", path, body, {"X-Signature": signature}).status == 401
    assert idle_provider.send("GET", "/charges/ch_1", headers={"X-Signature": signature}).status == 401
    assert idle_provider.send("GET", "/").json["charges"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"amount_minor": 1.5},
        {"amount_minor": True},
        {"amount_minor": "100"},
        {"amount_minor": 10**13},
        {"currency": "yuan"},
        {"currency": None},
        {"reference": ""},
        {"reference": "a" * 201},
        {"reference": "line\nfeed"},
        {"reference": "\ud800"},
        {"callback_url": "file:///etc/passwd"},
        {"callback_url": "ftp://127.0.0.1/"},
        {"callback_url": "http://"},
        {"callback_url": "http://127.0.0.1:99999/"},
        {"callback_url": "http://[::1/"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "http://shop/\r\nSet-Cookie: a=b"},
        {"expires_at_ms": "soon"},
        {"idempotency_key": 7},
        {"surprise": 1},
    ],
    ids=repr,
)
def test_a_wrong_value_is_explained(idle_provider, shop, wrong):
    """The answer names the value that is wrong, and there is no charge."""
    answer = idle_provider.post("/charges", charge_request(shop) | wrong)

    assert answer.status == 400
    assert next(iter(wrong)) in answer.json["error"]
    assert idle_provider.send("GET", "/").json["charges"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 60_000, b"1" * 60_000, b"{}"])
def test_a_body_that_is_no_charge_is_a_bad_request(idle_provider, body):
    """Broken JSON, deep JSON, huge numbers and the wrong kind of value are all the client's mistake."""
    answer = idle_provider.send("POST", "/charges", body, {"X-Signature": signed(body)})

    assert answer.status == 400
    assert answer.json["error"]


def test_an_unknown_decision_decides_nothing(provider, shop):
    """Only pay and decline are decisions."""
    charge = provider.charge(shop)

    assert provider.decide(charge, "maybe").status == 400
    assert provider.send("POST", f"/pay/{charge['id']}", b"\xff=%ff").status == 400
    assert provider.get(f"/charges/{charge['id']}").json["state"] == "pending"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/pay/ch_none", 404),
        ("POST", "/pay/ch_none", 404),
        ("GET", "/charges", 405),
        ("DELETE", "/charges/ch_1", 405),
        ("PUT", "/faults", 405),
        ("POST", "/", 405),
        ("BREW", "/", 501),
    ],
)
def test_the_wrong_door_answers_in_json(idle_provider, method, path, status):
    """What is not there is 404, what is there for other methods 405, and both say so in JSON."""
    answer = idle_provider.send(method, path)

    assert answer.status == status
    assert answer.json["error"]


def test_a_body_too_large_is_refused_and_heard(idle_provider):
    """The sender gets to read 413 instead of a reset connection."""
    assert idle_provider.send("POST", "/charges", b"a" * 200_000).status == 413


def test_a_connection_serves_many_requests(idle_provider):
    """Keep-alive stays in step, also after a refusal with a body and after HEAD."""
    connection = http.client.HTTPConnection("127.0.0.1", idle_provider.port, timeout=PATIENCE_SECONDS)
    statuses = []

    for method, path, body in [("POST", "/charges", b"{}"), ("HEAD", "/", None), ("GET", "/", None)]:
        connection.request(method, path, body)
        opened = connection.sock
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        assert connection.sock is opened

    assert statuses == [401, 200, 200]
    connection.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST /charges HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /charges HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_ends(idle_provider, request_bytes):
    """A request whose end cannot be known is answered with an error and nothing after it is read."""
    with socket.create_connection(("127.0.0.1", idle_provider.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request_bytes)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))

    assert answer.split(b" ", 2)[1] in (b"400", b"411")
    assert b"Traceback" not in answer


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Callback:
    body: bytes
    signature: str
    event: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.event = json.loads(self.body)

    def is_signed(self) -> bool:
        signed_at = int(self.signature.removeprefix("t=").partition(",")[0])
        return self.signature == signature_at(signed_at, self.body, SECRET)


class Shop:
    """The receiving end: a real HTTP server that notes every callback."""

    def __init__(self) -> None:
        self.port = free_port()
        self.callbacks: list[Callback] = []
        self.statuses: list[int] = []
        self.answers = threading.Event()
        self.answers.set()

    def start(self) -> None:
        shop = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                shop.callbacks.append(Callback(body, self.headers["X-Signature"]))
                shop.answers.wait(PATIENCE_SECONDS)
                self.send_response(shop.statuses.pop(0) if shop.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Receiver)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def types(self) -> list[str]:
        return [callback.event["type"] for callback in self.callbacks]

    def wait_for(self, callbacks: int) -> None:
        wait_until(lambda: len(self.callbacks) >= callbacks)


class Provider:
    """The process under test."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shop.local.provider"],
            cwd=Path(__file__).parents[2],
            env=clean_environment()
            | {"PROVIDER_PORT": str(self.port), "PROVIDER_SECRET": SECRET, "STATE": str(self.state)}
            | {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
            | environment,
        )
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "the provider did not start"
        try:
            return self.send("GET", "/").status == 200
        except OSError:
            return False

    def stop(self, how: signal.Signals) -> int:
        self._process.send_signal(how)
        return self._process.wait(PATIENCE_SECONDS)

    def send(self, method: str, path: str, body: bytes = b"", headers: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.send("GET", path, headers={"X-Signature": signed(b"")})

    def post(self, path: str, values: object) -> Answer:
        body = json.dumps(values).encode()
        return self.send("POST", path, body, {"X-Signature": signed(body)})

    def charge(self, shop: Shop, **values: Any) -> dict[str, Any]:
        answer = self.post("/charges", charge_request(shop, **values))
        assert answer.status == 201, answer.text
        return answer.json

    def decide(self, charge: dict[str, Any], action: str) -> Answer:
        return self.send("POST", f"/pay/{charge['id']}", f"action={action}".encode())

    def pay(self, charge: dict[str, Any]) -> Answer:
        return self.decide(charge, "pay")

    def set_faults(self, **faults: Any) -> dict[str, Any]:
        answer = self.post("/faults", faults)
        assert answer.status == 200, answer.text
        return answer.json


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    provider = Provider(tmp_path)
    provider.start()
    yield provider
    provider.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def idle_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all the tests that must leave no trace in it."""
    provider = Provider(tmp_path_factory.mktemp("idle"))
    provider.start()
    yield provider
    provider.stop(signal.SIGKILL)


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    shop.start()
    yield shop
    shop.stop()


def charge_request(shop: Shop, **values: Any) -> dict[str, Any]:
    return {
        "reference": "ORDER-7",
        "amount_minor": 1000,
        "currency": "CNY",
        "callback_url": shop.url("/payments/callback"),
        "return_url": shop.url("/orders/7/"),
        "expires_at_ms": None,
        "idempotency_key": f"key-{next(keys)}",
    } | values


def signed(body: bytes, secret: str = SECRET, age_seconds: int = 0) -> str:
    return signature_at(int(time.time()) - age_seconds, body, secret)


def signature_at(signed_at: int, body: bytes, secret: str) -> str:
    digest = hmac.new(secret.encode(), b"%d." % signed_at + body, hashlib.sha256).hexdigest()
    return f"t={signed_at},v1={digest}"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
