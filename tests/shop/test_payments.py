"""Money: it leads to the provider and comes back signed, once, in any order, and is never lost."""

import http.server
import json
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as configured
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from inventory import effects, outbox, reservations
from inventory.models import Reservation
from inventory.outcomes import Wish
from inventory.verification import findings
from resilience.retry import Budget
from shop import buyers, late_money, opening, orders, payments
from shop import provider as provider_api
from shop.models import Offer, Order, Payment, ProviderEvent, Sale
from shop.verification import findings as money_findings
from tests.crowd import at_once, eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import CONNECTIONS, At, OnlyThere, Reset
from tests.free_ports import free_port
from tests.people import a_crowd, reservation_id
from tests.servers import clean_environment
from tests.shop import clicks
from tests.shop.clicks import JSON, PAGE

MakeShopper = Callable[[], Client]
Frozen = Callable[[str], AbstractContextManager[None]]
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def order(sale: Sale, shopper: Client) -> Order:
    """The shopper's, awaiting its payment."""
    return clicks.order(shopper, sale)


def event(order: Order, kind: str = "charge.succeeded", charge: str = "ch_1", **changes: Any) -> dict[str, Any]:
    """What the provider tells about an order's charge."""
    return {
        "event_id": f"ev_{secrets.token_hex(8)}",
        "type": kind,
        "charge": charge,
        "reference": order.number,
        "amount_minor": order.total_minor,
        "currency": order.currency,
        "refund": None,
        "occurred_at_ms": 1,
        **changes,
    }


def deliver(raw: bytes | dict[str, Any], **headers: str) -> Any:
    """POST a callback as the provider does; signed, unless the headers say otherwise."""
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    signed = {"X-Signature": provider_api.sign(raw), **headers}
    return Client().post("/payments/callback", raw, content_type="application/json", headers=signed)


def expire(order: Order) -> None:
    """The time to pay is over, and the sweep has seen it."""
    Reservation.objects.filter(pk=order.reservation_id).update(expires_at=order.placed_at)
    assert reservations.expire_due(orders.expire) == 1


def give_up(order: Order) -> None:
    """Its buyer cancels: money that comes now can only go back."""
    assert orders.cancel(order)


def states(order: Order) -> tuple[str, list[str]]:
    """Of the order, and of its payments from the first to the last."""
    order.refresh_from_db()
    return order.state, list(order.payments.order_by("pk").values_list("state", flat=True))


# --- Callbacks -------------------------------------------------------------------------------------------------------


def test_a_payment_buys_the_units(order: Order, offer: Offer) -> None:
    """The order is paid, the unit sold, in both stores; the provider hears 200."""
    answer = deliver(event(order))

    assert (answer.status_code, answer.json()) == (200, {"outcome": "RECEIVED"})
    assert states(order) == ("paid", ["succeeded"])
    assert clicks.counters(offer) == (19, 0, 1)
    assert order.ended_at


def test_what_is_not_signed_changes_nothing(order: Order, stock_redis: redis.Redis) -> None:
    """Wrong secret, other body, no header, an old or future time, another spelling: 400, and nothing is kept."""
    raw = json.dumps(event(order)).encode()
    good = provider_api.sign(raw)
    seconds, mac = good.removeprefix("t=").split(",v1=")
    before = clicks.everything(stock_redis)

    def signed_at(moment: int) -> str:
        return f"t={moment},v1={provider_api.mac(str(moment), raw)}"

    forgeries = [
        *("", "x", mac, f"v1={mac}", f"t={seconds}", f"t={seconds},v1=", f"t={seconds},v1={'0' * 64}"),
        *(f"t={int(seconds) + 1},v1={mac}", f"t={seconds},v1={mac.upper()}", f"t= {seconds},v1={mac}", good + ",v1=x"),
        *(f"t={seconds},v1={mac[:-1]}", f"t={'9' * 400},v1={mac}", f"t=٣,v1={mac}", f"t=-1,v1={mac}", good + "\n"),
        *(provider_api.sign(raw + b" "), provider_api.sign(b""), signed_at(int(time.time()) - 310), signed_at(0)),
        signed_at(int(time.time()) + 310),
    ]
    for forged in forgeries:
        answer = deliver(raw, **{"X-Signature": forged})
        assert (answer.status_code, answer.json()["outcome"]) == (400, "INVALID"), forged
    unsigned = Client().post("/payments/callback", raw, content_type="application/json")
    assert unsigned.status_code == 400
    assert clicks.everything(stock_redis) == before

    assert deliver(raw, **{"X-Signature": signed_at(int(time.time()) - 290)}).status_code == 200


def test_the_signature_is_over_the_bytes(order: Order, stock_redis: redis.Redis) -> None:
    """The same JSON written another way is not what was signed."""
    values = event(order)
    good = provider_api.sign(json.dumps(values).encode())
    before = clicks.everything(stock_redis)

    for same in (json.dumps(values, indent=1), json.dumps(values, sort_keys=True), json.dumps(values) + "\n"):
        assert deliver(same.encode(), **{"X-Signature": good}).status_code == 400
    assert clicks.everything(stock_redis) == before


def test_a_signed_body_that_makes_no_sense_changes_nothing(order: Order, stock_redis: redis.Redis) -> None:
    """Not an object, a field missing or of another kind, what PostgreSQL cannot keep, too much: 4xx, nothing kept."""
    good, strings = event(order), ("event_id", "type", "charge", "reference", "currency")
    bodies: list[Any] = [
        *(b"", b"{", b"[]", b"null", b"1", b"\xff", b"[" * 9000, b'{"event_id": "x"}'),
        *({key: value for key, value in good.items() if key != name} for name in list(good)[:6]),
        *({**good, name: value} for name in strings for value in (None, 1, [], {}, True, "", "x" * 65, "a\0")),
        *({**good, "amount_minor": amount} for amount in (None, "9900", 1.5, True, 0, -1, 2**63, [9900])),
        *({**good, name: "\ud800"} for name in ("event_id", "charge", "refund", "something")),
        *({**good, "something": value} for value in ("\0", float("nan"), float("inf"))),
        {**good, "currency": "CNYCNY"},
    ]
    before = clicks.everything(stock_redis)

    for body in bodies:
        answer = deliver(body)
        assert (answer.status_code, answer.json()["outcome"]) == (400, "INVALID"), body
    assert deliver(b" " * 20_000).status_code == 413
    assert deliver(b" " * 2_000_000).status_code == 413
    assert clicks.everything(stock_redis) == before


def test_ten_duplicates_pay_once(order: Order, offer: Offer) -> None:
    """One after the other, each is answered 200 and the first alone counts."""
    told = event(order)

    assert [deliver(told).status_code for _ in range(10)] == [200] * 10
    assert states(order) == ("paid", ["succeeded"])
    assert ProviderEvent.objects.count() == 1
    assert clicks.counters(offer) == (19, 0, 1)


@pytest.mark.parametrize("same_event", [True, False])
def test_ten_duplicates_at_once_pay_once(order: Order, offer: Offer, same_event: bool) -> None:
    """In the same moment, as one event or as ten about the same charge: sold once, no error to the provider."""
    told = event(order)
    copies = [told if same_event else {**told, "event_id": f"ev_{n}"} for n in range(10)]

    assert [answer.status_code for answer in at_once(copies, deliver)] == [200] * 10
    assert states(order) == ("paid", ["succeeded"])
    assert clicks.counters(offer) == (19, 0, 1)


def test_failed_then_succeeded(order: Order) -> None:
    """A charge that was declined first can still succeed; the order stays payable in between."""
    deliver(event(order, "charge.failed"))
    assert states(order) == ("awaiting_payment", ["failed"])

    deliver(event(order))
    assert states(order) == ("paid", ["succeeded"])


def test_succeeded_then_failed(order: Order) -> None:
    """Callbacks overtake each other: what was paid stays paid."""
    deliver(event(order))
    deliver(event(order, "charge.failed"))

    assert states(order) == ("paid", ["succeeded"])


def test_a_refund_that_is_told_before_its_payment(order: Order) -> None:
    """The money went back before we heard that it came: the late news of its coming buys nothing."""
    deliver(event(order, "refund.succeeded", refund="re_1"))
    deliver(event(order))

    assert states(order) == ("awaiting_payment", ["refunded"])


def test_an_order_that_we_do_not_know(order: Order) -> None:
    """200, so that it is not told for ever; kept, with a note, for a person."""
    assert deliver(event(order, reference="NO-SUCH-ORDER")).status_code == 200

    kept = ProviderEvent.objects.get()
    assert (kept.note, kept.payload["reference"]) == ("no such order", "NO-SUCH-ORDER")
    assert states(order) == ("awaiting_payment", [])


def test_a_kind_that_we_do_not_know(order: Order) -> None:
    """The provider may add kinds of events: kept, and nothing moves."""
    assert deliver(event(order, "charge.disputed")).status_code == 200
    assert states(order)[0] == "awaiting_payment"
    assert ProviderEvent.objects.get().note == "unknown type"


@pytest.mark.parametrize("odd", [{"amount_minor": 1}, {"amount_minor": 9_901}, {"currency": "USD"}])
def test_the_wrong_money_buys_nothing(order: Order, offer: Offer, odd: dict[str, Any]) -> None:
    """Too little, too much or another currency: exactly that goes back, and the order can still be paid."""
    deliver(event(order, **odd))

    assert states(order) == ("awaiting_payment", ["refund_due"])
    owed = order.payments.get()
    assert (owed.amount_minor, owed.currency) == (odd.get("amount_minor", 9_900), odd.get("currency", "CNY"))
    assert clicks.counters(offer) == (19, 1, 0)

    deliver(event(order, charge="ch_2"))
    assert states(order) == ("paid", ["refund_due", "succeeded"])


def test_a_payment_after_cancelling_is_owed_back(order: Order, offer: Offer) -> None:
    """Cancelled, and the unit is back on sale: the money is due to its buyer, however often it is told."""
    give_up(order)
    for _ in range(3):
        deliver(event(order))

    assert states(order) == ("refund_due", ["refund_due"])
    assert clicks.counters(offer) == (20, 0, 0)


def come_to_rest(offer: Offer) -> None:
    """What the worker does each second: ask for units, record them, pay with them."""
    for _ in range(3):
        late_money.settle()
        outbox.drain(offer.pk, orders.place)
        effects.apply_pending()


def test_late_money_buys_other_units(order: Order, offer: Offer) -> None:
    """Expired a moment before the money came, and units are left: the same order is paid with a new reservation."""
    first = order.reservation_id
    expire(order)
    for _ in range(3):
        deliver(event(order))
    assert states(order) == ("expired", ["late"])

    come_to_rest(offer)

    assert states(order) == ("paid", ["succeeded"])
    assert order.reservation_id != first
    assert [earlier.pk for earlier in order.earlier.all()] == [first]
    assert order.reservation.reason == "late"
    assert clicks.counters(offer) == (19, 0, 1)
    assert Order.objects.count() == 1
    assert [*findings(offer.pk), *money_findings(offer.pk)] == []


def test_late_money_finds_nothing_left(order: Order, offer: Offer) -> None:
    """Somebody else has bought the units meanwhile: the money goes back."""
    expire(order)
    effects.apply_pending()
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in a_crowd(20)])
    deliver(event(order))

    come_to_rest(offer)

    assert states(order) == ("refund_due", ["refund_due"])
    assert [*findings(offer.pk), *money_findings(offer.pk)] == []


def test_late_money_buys_after_the_sale_has_closed(order: Order, sale: Sale, offer: Offer) -> None:
    """The window is for clicks; whoever has paid gets the unit that came back."""
    expire(order)
    opening.close(sale)
    deliver(event(order))

    come_to_rest(offer)

    assert states(order) == ("paid", ["succeeded"])


def test_late_money_waits_while_redis_is_away(order: Order, offer: Offer, frozen: Frozen) -> None:
    """Nobody knows whether there are units: it asks again later, and finds one reservation."""
    expire(order)
    deliver(event(order))
    with frozen("redis-stock"):
        assert late_money.settle() == 0
    assert states(order) == ("expired", ["late"])

    come_to_rest(offer)

    assert states(order) == ("paid", ["succeeded"])
    assert clicks.counters(offer) == (19, 0, 1)


def test_late_money_has_its_patience(order: Order, sale: Sale, offer: Offer) -> None:
    """Paused for longer than that, the sale gives the money back."""
    expire(order)
    opening.pause(sale)
    deliver(event(order))
    come_to_rest(offer)
    assert states(order) == ("expired", ["late"])

    Payment.objects.update(succeeded_at="2020-01-01T00:00:00Z")
    come_to_rest(offer)

    assert states(order) == ("refund_due", ["refund_due"])


def test_the_second_payment_of_an_order_goes_back(order: Order, offer: Offer) -> None:
    """Two tabs, two charges, both paid in the same moment: one buys, the other is owed back, the order is paid."""
    both = [event(order, charge=charge) for charge in ("ch_1", "ch_2")]

    assert [answer.status_code for answer in at_once(both, deliver)] == [200, 200]

    state, paid = states(order)
    assert (state, sorted(paid)) == ("paid", ["refund_due", "succeeded"])
    assert clicks.counters(offer) == (19, 0, 1)


def test_cancelled_or_paid_but_not_both(sale: Sale, offer: Offer, make_shopper: MakeShopper) -> None:
    """Twenty orders whose buyer cancels in the moment the money comes: one of the two wins, and all figures agree."""
    for _ in range(20):
        shopper = make_shopper()
        order = clicks.order(shopper, sale)
        told, cancel_url = event(order, charge=f"ch_{order.number}"), f"/orders/{order.number}/cancel"

        paid, cancelled = at_once(
            [lambda told=told: deliver(told), lambda s=shopper, u=cancel_url: clicks.send(s, u)], lambda do: do()
        )

        assert paid.status_code == 200
        if cancelled.status_code == 200:
            assert states(order) == ("refund_due", ["refund_due"])
        else:
            assert cancelled.json()["outcome"] == "NO_LONGER"
            assert states(order) == ("paid", ["succeeded"])
        sold = Order.objects.filter(state="paid").count()
        assert clicks.counters(offer) == (20 - sold, 0, sold)


def test_expired_or_paid_but_not_both(sale: Sale, offer: Offer, make_shopper: MakeShopper) -> None:
    """The same at the deadline: the sweep and the money come together."""
    for _ in range(10):
        order = clicks.order(make_shopper(), sale)
        Reservation.objects.filter(pk=order.reservation_id).update(expires_at=order.placed_at)
        told = event(order, charge=f"ch_{order.number}")

        at_once([lambda told=told: deliver(told), lambda: reservations.expire_due(orders.expire)], lambda do: do())

        assert states(order) in (("paid", ["succeeded"]), ("expired", ["late"]))
        come_to_rest(offer)
        assert states(order) == ("paid", ["succeeded"])
        sold = Order.objects.filter(state="paid").count()
        assert clicks.counters(offer) == (20 - sold, 0, sold)


# --- With the provider -----------------------------------------------------------------------------------------------


class Provider:
    """The outside company, as a browser and its operator see it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def request(self, url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, str]:
        """Status, headers, text; redirects are not followed."""

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                return None

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
        try:
            with opener.open(urllib.request.Request(url, body, headers), timeout=10) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def decide(self, pay_url: str, action: str) -> tuple[int, Any, str]:
        return self.request(pay_url, urllib.parse.urlencode({"action": action}).encode())

    def faults(self, **faults: Any) -> None:
        raw = json.dumps(faults).encode()
        assert self.request(f"{self.url}/faults", raw, **{"X-Signature": provider_api.sign(raw)})[0] == 200


@pytest.fixture(scope="module")
def provider_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The company in a process of its own, which shares the secret and nothing else."""
    port = free_port()
    environment = {
        **clean_environment(),
        "PROVIDER_PORT": str(port),
        "PROVIDER_SECRET": configured.PROVIDER_SECRET,
        "STATE": str(tmp_path_factory.mktemp("provider")),
    }
    process = subprocess.Popen([sys.executable, "-m", "shop.local.provider"], cwd=CHECKOUT, env=environment)
    provider = Provider(f"http://127.0.0.1:{port}")
    eventually(lambda: _answers(provider))
    yield provider
    process.terminate()
    process.wait(10)


def _answers(provider: Provider) -> bool:
    try:
        return provider.request(provider.url)[0] == 200
    except OSError:
        return False


@pytest.fixture
def provider(provider_process: Provider, settings: Settings) -> Provider:
    """Healthy, and the shop knows where it is."""
    settings.PROVIDER_URL = provider_process.url
    provider_process.faults()
    return provider_process


def the_refund_is_told() -> None:
    """The provider calls back about a refund on its own time; no test ends before it has."""
    eventually(lambda: ProviderEvent.objects.filter(kind="refund.succeeded").exists())


def test_pay_leads_to_the_provider(order: Order, shopper: Client, provider: Provider) -> None:
    """303 to a page of the provider that asks for the right sum; a script gets its address."""
    url = f"/orders/{order.number}/pay"

    led, told = shopper.post(url, headers=PAGE), clicks.send(shopper, url)

    assert led.status_code == 303
    assert led["Location"].startswith(provider.url)
    assert told.json() == {"pay_url": led["Location"]}
    status, _, page = provider.request(led["Location"])
    assert status == 200
    assert "99.00" in page
    assert order.payments.count() == 1


def test_many_presses_of_pay_lead_to_one_page(sale: Sale, make_shopper: MakeShopper, provider: Provider) -> None:
    """Eight in the same moment, and one more later: one charge. Five times, because it was a rare race once."""
    for _ in range(5):
        shopper = make_shopper()
        order = clicks.order(shopper, sale)
        tabs = [Client() for _ in range(8)]
        for tab in tabs:
            tab.cookies[buyers.COOKIE] = shopper.cookies[buyers.COOKIE].value

        def press(tab: Client, url: str = f"/orders/{order.number}/pay") -> str:
            return str(clicks.send(tab, url).json()["pay_url"])

        assert set(at_once(tabs, press)) == {press(shopper)}
        assert order.payments.count() == 1


def test_after_a_declined_charge_another_page(order: Order, shopper: Client, provider: Provider) -> None:
    """Pay again is a new attempt with a charge of its own."""
    first = clicks.send(shopper, f"/orders/{order.number}/pay").json()["pay_url"]
    deliver(event(order, "charge.failed", charge=order.payments.get().charge))

    assert clicks.send(shopper, f"/orders/{order.number}/pay").json()["pay_url"] != first


def test_the_whole_loop(
    sale: Sale, shopper: Client, provider: Provider, live_server: LiveServer, settings: Settings
) -> None:
    """Pay at the provider, come back to an order that is paid, all over real HTTP."""
    settings.SHOP_URL = live_server.url
    order = clicks.order(shopper, sale)
    pay_url = shopper.post(f"/orders/{order.number}/pay", headers=PAGE)["Location"]
    status, headers, _ = provider.decide(pay_url, "pay")
    assert (status, headers["Location"]) == (303, f"{live_server.url}/orders/{order.number}/")
    assert states(order) == ("paid", ["succeeded"])
    assert shopper.get(f"/orders/{order.number}/", headers=JSON).json()["order"]["state"] == "paid"


def test_a_late_payment_is_given_back_once(
    order: Order, shopper: Client, provider: Provider, live_server: LiveServer, settings: Settings
) -> None:
    """Paid after it was cancelled: due, then refunded by the task; the provider's own word changes nothing."""
    settings.SHOP_URL = live_server.url
    pay_url = clicks.send(shopper, f"/orders/{order.number}/pay").json()["pay_url"]
    give_up(order)
    provider.decide(pay_url, "pay")
    assert states(order) == ("refund_due", ["refund_due"])

    assert sum(at_once(range(4), lambda _: payments.refund_due())) == 1
    assert payments.refund_due() == 0

    assert states(order) == ("refunded", ["refunded"])
    assert order.refunded_at
    the_refund_is_told()
    assert states(order) == ("refunded", ["refunded"])


def test_a_refund_waits_for_the_provider(
    order: Order, shopper: Client, provider: Provider, live_server: LiveServer, settings: Settings
) -> None:
    """Down when the money should go back: it stays due and goes back later."""
    settings.SHOP_URL = live_server.url
    pay_url = clicks.send(shopper, f"/orders/{order.number}/pay").json()["pay_url"]
    give_up(order)
    provider.decide(pay_url, "pay")
    provider.faults(refuse=True)
    with pytest.raises(provider_api.ProviderUnavailable):
        payments.refund_due()
    assert states(order) == ("refund_due", ["refund_due"])

    provider.faults()
    provider_api.guard.breaker.start_over()  # later: its open time is over
    assert payments.refund_due() == 1
    the_refund_is_told()
    assert states(order) == ("refunded", ["refunded"])


def test_one_refund_that_is_refused_does_not_stop_the_others(
    sale: Sale, make_shopper: MakeShopper, provider: Provider, live_server: LiveServer, settings: Settings
) -> None:
    """A charge that the provider has never heard of stays due; everybody else gets their money."""
    settings.SHOP_URL = live_server.url
    odd = clicks.order(make_shopper(), sale)
    shopper = make_shopper()
    honest = clicks.order(shopper, sale)
    pay_url = clicks.send(shopper, f"/orders/{honest.number}/pay").json()["pay_url"]
    give_up(honest)
    provider.decide(pay_url, "pay")
    give_up(odd)
    deliver(event(odd, charge="ch_of_nobody"))

    assert payments.refund_due() == 1
    the_refund_is_told()
    assert states(honest) == ("refunded", ["refunded"])
    assert states(odd) == ("refund_due", ["refund_due"])


def test_the_provider_is_down(order: Order, shopper: Client) -> None:
    """503 with a sentence that says what it means for the order; it stays payable."""
    url = f"/orders/{order.number}/pay"

    answer, page = clicks.send(shopper, url), shopper.post(url, headers=PAGE)

    assert (answer.status_code, answer.json()["outcome"]) == (503, "BUSY")
    assert int(answer["Retry-After"]) > 0
    assert "stays payable" in answer.json()["detail"]
    assert page.status_code == 503
    assert f"/orders/{order.number}/" in page.content.decode()
    assert states(order) == ("awaiting_payment", [])
    deliver(event(order))
    assert states(order) == ("paid", ["succeeded"])


@pytest.fixture
def on_the_way(provider: Provider, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A way to the provider that can be cut, and a shop that has not tried anything again for a while."""
    monkeypatch.setattr(provider_api.asking, "budget", Budget("payment provider"))
    host, port = provider.url.removeprefix("http://").split(":")
    with FaultProxy((host, int(port)), counting=[b"POST /"]) as proxy:
        settings.PROVIDER_URL = "http://{}:{}".format(*proxy.address)
        yield proxy


def test_a_shopper_does_not_feel_a_hiccup(order: Order, shopper: Client, on_the_way: FaultProxy) -> None:
    """The charge was made and its answer lost: it is asked for once more, and is the same charge."""
    on_the_way.script = [(At(1, CONNECTIONS), OnlyThere(Reset()))]

    answer = clicks.send(shopper, f"/orders/{order.number}/pay")

    assert answer.status_code == 200
    assert on_the_way.requests(b"POST /") == 2
    assert states(order) == ("awaiting_payment", ["pending"])


def test_a_refusal_is_not_asked_about_twice(on_the_way: FaultProxy) -> None:
    """The provider works and knows no such charge: it would say so again."""
    with pytest.raises(provider_api.ProviderRefused):
        provider_api.refund("ch_nobody", 100)

    assert on_the_way.requests(b"POST /") == 1


ODD_ANSWERS = [
    *(b"not JSON", b"", b"[]", b"null", b"{}", b'{"id": 1, "pay_url": "http://x/"}', b'{"id": "ch_1"}', b"[" * 99_999),
    *(b'{"id": "ch_1", "pay_url": "javascript:alert(1)"}', b'{"id": "", "pay_url": "http://x/"}', b"\xff"),
    *(
        b'{"id": "ch_1", "pay_url": "http://x/%s"}' % (b"a" * 300),
        b'{"id": "%s", "pay_url": "http://x/"}' % (b"a" * 65),
    ),
]


@pytest.mark.parametrize(
    "sent",
    [
        *(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) for body in ODD_ANSWERS),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 402 Pay first\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"\r\n\r\n",
        b"",
        None,
    ],
    ids=lambda sent: repr(sent)[:40],
)
def test_the_provider_talks_nonsense(order: Order, shopper: Client, settings: Settings, sent: bytes | None) -> None:
    """Whatever comes back instead of a charge, or nothing in time, is the provider being down."""
    settings.PROVIDER_TIMEOUT_SECONDS = 0.2

    class Nonsense(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            if sent is None:
                done.wait(10)
            else:
                self.request.sendall(sent)

    done = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        settings.PROVIDER_URL = f"http://127.0.0.1:{server.server_port}"
        answer = clicks.send(shopper, f"/orders/{order.number}/pay")
        done.set()
        server.shutdown()

    assert (answer.status_code, answer.json()["outcome"]) == (503, "BUSY")
    assert states(order) == ("awaiting_payment", [])


def test_a_lost_callback_is_asked_for(
    order: Order, shopper: Client, provider: Provider, live_server: LiveServer, settings: Settings
) -> None:
    """The provider's call never came: after a while we look into its books, and the order is paid once."""
    settings.SHOP_URL = live_server.url
    pay_url = clicks.send(shopper, f"/orders/{order.number}/pay").json()["pay_url"]
    provider.faults(drop_callbacks=True)
    provider.decide(pay_url, "pay")
    assert payments.pull() == 0, "a callback may still be on its way"

    Payment.objects.update(created_at=timezone.now() - payments.PULL_AFTER * 2)

    assert payments.pull() == 1
    assert payments.pull() == 0
    assert states(order) == ("paid", ["succeeded"])
