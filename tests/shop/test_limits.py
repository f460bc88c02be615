"""Who is asked to wait, and by which address a request is known, whatever it says about itself."""

import http.client
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from prometheus_client import REGISTRY
from pytest_django import Settings

from resilience.rate_limit import _Memory
from shop import limits
from shop.models import Sale
from tests.conftest import Shopper
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.free_ports import free_port
from tests.shop import clicks

CITY, VILLAGE = "203.0.113.9", "198.51.100.7"
#: So slow that nothing is paid back during a test.
ONE, TWO, MANY = (1, 1), (1, 2), (60_000, 1_000)

_households = itertools.count(1)


@pytest.fixture(autouse=True)
def strict(settings: Settings) -> None:
    """Nobody is exempt, and nobody has been counted yet."""
    settings.RATE_LIMIT_EXEMPT = []
    limits._limiter.cache_clear()
    cache_redis = redis.Redis.from_url(django_settings.CACHE_REDIS_URL)
    for key in cache_redis.scan_iter("rate:*"):
        cache_redis.delete(key)


def request_from(peer: str, forwarded: str | None = None) -> Any:
    said = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return RequestFactory().get("/", REMOTE_ADDR=peer, **said)


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "is_"),
    [
        (0, CITY, None, CITY),
        (0, CITY, "10.0.0.1", CITY),  # nobody trusted: what the client says is nothing
        (1, "127.0.0.1", CITY, CITY),
        (1, "127.0.0.1", f"10.0.0.1, 127.0.0.1,{CITY}", CITY),  # lies before our proxy's entry
        (2, "127.0.0.1", f"10.0.0.1,{CITY}, 10.0.0.2", CITY),
        (2, VILLAGE, CITY, VILLAGE),  # has not come through both: whoever is connected
        (1, VILLAGE, None, VILLAGE),
        (1, VILLAGE, "", VILLAGE),
        (1, VILLAGE, "unknown", VILLAGE),
        (1, VILLAGE, "10.0.0.1, <script>", VILLAGE),
        (1, "127.0.0.1", f"{CITY}:4711", CITY),
        (1, "127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "127.0.0.1", "fe80::1%eth0", "fe80::1"),
        (1, "127.0.0.1", f"::ffff:{CITY}", CITY),
        (0, "", None, None),  # a unix socket, without a proxy that says who it speaks for
        (1, "", CITY, CITY),
    ],
)
def test_the_address_is_what_our_own_proxies_say(
    settings: Settings, trusted: int, peer: str, forwarded: str | None, is_: str | None
) -> None:
    """The entry that the outermost of our proxies made counts; without one, the peer."""
    settings.TRUSTED_PROXIES = trusted

    address = limits.address_of(request_from(peer, forwarded).META)

    assert (str(address) if address else None) == is_


def test_a_buyer_clicks_too_fast(settings: Settings, sale: Sale, shopper: Shopper) -> None:
    """A ticket and Buy are two; the third is SLOW_DOWN with the time to wait, changes nothing, and others go on."""
    settings.RATE_LIMIT_BUYER, settings.RATE_LIMIT_ADDRESS = TWO, MANY
    ticket = clicks.ticket(shopper, sale)
    assert clicks.buy(shopper, sale, ticket).status_code == 202
    clicks.record(sale.offers.get())
    before = clicks.counters(sale.offers.get())

    answer = clicks.buy(shopper, sale, ticket)

    assert (answer.status_code, answer.json()["outcome"]) == (429, "SLOW_DOWN")
    assert 1 <= int(answer["Retry-After"]) <= 60 * limits.LATEST
    assert clicks.send(shopper, f"/sales/{sale.slug}/ticket").status_code == 429
    assert clicks.counters(sale.offers.get()) == before


@pytest.mark.parametrize("verb", ["pay", "cancel"])
def test_orders_are_not_pressed_too_fast(settings: Settings, sale: Sale, shopper: Shopper, verb: str) -> None:
    """Paying asks the provider, cancelling locks rows: both count like clicks, also for an order that is none."""
    order = clicks.order(shopper, sale)
    settings.RATE_LIMIT_BUYER, settings.RATE_LIMIT_ADDRESS = ONE, MANY
    limits._limiter.cache_clear()
    redis.Redis.from_url(django_settings.CACHE_REDIS_URL).delete(f"rate:buyer:{shopper.user.pk}")

    codes = [clicks.send(shopper, f"/orders/{number}/{verb}").status_code for number in ("none", order.number)]

    assert codes == [404, 429]
    order.refresh_from_db()
    assert order.state == "awaiting_payment"


def test_who_is_refused_together_comes_back_apart(settings: Settings, sale: Sale, client: Client) -> None:
    """Each hears a wait of its own, none of which is too short."""
    settings.RATE_LIMIT_ADDRESS = ONE
    url = f"/sales/{sale.slug}/ticket"
    client.post(url, headers=clicks.JSON)

    waits = {int(client.post(url, headers=clicks.JSON)["Retry-After"]) for _ in range(50)}

    assert len(waits) > 3
    assert min(waits) > 50


def test_refusals_are_counted_by_limit_and_tier(settings: Settings, sale: Sale, client: Client) -> None:
    """By the limit that asks for the longest wait, and by who refused."""
    settings.RATE_LIMIT_ADDRESS = ONE
    before = REGISTRY.get_sample_value("rate_limited_total", {"limit": "address", "tier": "memory"}) or 0

    for _ in range(3):
        client.post(f"/sales/{sale.slug}/ticket", headers=clicks.JSON)

    assert REGISTRY.get_sample_value("rate_limited_total", {"limit": "address", "tier": "memory"}) == before + 2


def test_ten_thousand_strangers_and_a_header_of_100_kb(settings: Settings) -> None:
    """A crowd that lies about itself: each is who our proxy says, and memory has no more keys than it may."""
    settings.TRUSTED_PROXIES, settings.RATE_LIMIT_ADDRESS = 1, ONE
    lie = "1.2.3.4,x\x1b[2J," * 6_000
    limiter: Any = limits._limiter(settings.WEB_PROCESSES)
    limiter._own = _Memory(1_000)

    for number in range(10_000):
        stranger = {"HTTP_X_FORWARDED_FOR": f"{lie}10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}
        assert str(limits.address_of(stranger)).startswith("10.0.")
        assert limiter._own.admit({f"address:{limits.address_of(stranger)}": limits._limit("address", *ONE)}) == 0.0

    assert len(limiter._own) <= 1_000


def test_a_page_says_how_long(settings: Settings, sale: Sale, shopper: Shopper) -> None:
    """Without JavaScript: the same word on a page, with the seconds and the way back."""
    settings.RATE_LIMIT_BUYER, settings.RATE_LIMIT_ADDRESS = ONE, MANY
    clicks.ticket(shopper, sale)

    page = shopper.post(f"/sales/{sale.slug}/ticket", headers=clicks.PAGE)

    assert page.status_code == 429
    assert f"{page['Retry-After']} second" in page.content.decode()
    assert f'href="/sales/{sale.slug}/"' in page.content.decode()


def test_buyers_behind_one_address(
    settings: Settings, sale: Sale, make_shopper: Callable[[], Shopper], client: Client
) -> None:
    """Each has a limit of their own, also when one of them is too fast; together they have the address's."""
    settings.RATE_LIMIT_BUYER, settings.RATE_LIMIT_ADDRESS = ONE, (1, 4)
    url = f"/sales/{sale.slug}/ticket"
    fast, *others = [make_shopper() for _ in range(4)]

    assert [clicks.send(fast, url).status_code for _ in range(10)] == [200] + [429] * 9
    assert [clicks.send(each, url).status_code for each in others] == [200, 200, 200]

    assert clicks.send(make_shopper(), url).status_code == 429
    assert clicks.send(client, url).status_code == 429  # nobody in particular, from the same address
    assert client.post(url, headers=clicks.JSON, REMOTE_ADDR=VILLAGE).status_code == 401


def test_the_addresses_of_a_household_are_one(settings: Settings, sale: Sale, client: Client) -> None:
    """2^64 addresses of version 6 are no more than one; the next household's are others."""
    settings.RATE_LIMIT_ADDRESS = TWO
    url = f"/sales/{sale.slug}/ticket"

    def ask(address: str) -> int:
        return client.post(url, headers=clicks.JSON, REMOTE_ADDR=address).status_code

    assert [ask(f"2001:db8:0:1::{number:x}") for number in range(1, 5)] == [401, 401, 429, 429]
    assert ask("2001:db8:0:2::1") == 401


def test_lies_do_not_make_a_client_two(settings: Settings, sale: Sale, client: Client) -> None:
    """Whatever it puts into X-Forwarded-For before our proxy appends the truth, it stays who it is."""
    settings.RATE_LIMIT_ADDRESS, settings.TRUSTED_PROXIES = TWO, 1
    url = f"/sales/{sale.slug}/ticket"

    answers = [
        client.post(url, headers={**clicks.JSON, "x-forwarded-for": f"10.0.0.{number}, {CITY}"}).status_code
        for number in range(5)
    ]

    assert answers == [401, 401, 429, 429, 429]


def test_exempt_networks_are_not_counted(settings: Settings, sale: Sale, client: Client) -> None:
    """And nobody becomes exempt by saying so."""
    settings.RATE_LIMIT_ADDRESS, settings.RATE_LIMIT_EXEMPT = ONE, [ip_network("127.0.0.0/8"), ip_network("::1")]
    url = f"/sales/{sale.slug}/ticket"

    assert {client.post(url, headers=clicks.JSON).status_code for _ in range(5)} == {401}
    lies = {**clicks.JSON, "x-forwarded-for": "127.0.0.1"}
    assert [client.post(url, headers=lies, REMOTE_ADDR=CITY).status_code for _ in range(3)] == [401, 429, 429]


def test_requests_from_nowhere_share_a_limit(settings: Settings, sale: Sale, client: Client) -> None:
    """Rather than having none."""
    settings.RATE_LIMIT_ADDRESS = ONE
    url = f"/sales/{sale.slug}/ticket"

    assert [client.post(url, headers=clicks.JSON, REMOTE_ADDR="").status_code for _ in range(2)] == [401, 429]


def sign_in(client: Client, username: str, password: str = "wrong", **said: Any) -> int:
    return client.post("/accounts/login/", {"username": username, "password": password}, **said).status_code


def test_guessing_a_password_is_slow(settings: Settings, db: None, client: Client) -> None:
    """Two guesses for a name from an address, in whatever letters; its owner signs in from home all the same."""
    User.objects.create_user("victim", password="right")
    settings.RATE_LIMIT_PASSWORD, settings.RATE_LIMIT_ACCOUNTS = TWO, MANY

    assert [sign_in(client, name) for name in ("victim", "Victim", "VICTIM")] == [200, 200, 429]
    assert sign_in(client, "victim", "right") == 429

    assert sign_in(client, "somebody-else") == 200
    assert sign_in(client, "victim", "right", REMOTE_ADDR=VILLAGE) == 302


def test_signing_up_is_limited_by_address(settings: Settings, db: None, client: Client) -> None:
    """Sign-ins count for the same; looking at the forms does not."""
    settings.RATE_LIMIT_PASSWORD, settings.RATE_LIMIT_ACCOUNTS = MANY, TWO

    def sign_up(name: str) -> int:
        fields = {"username": name, "password1": "correct-horse-9", "password2": "correct-horse-9"}
        return client.post("/accounts/signup/", fields).status_code

    assert [sign_up("first"), sign_in(client, "first"), sign_up("second")] == [303, 200, 429]
    assert {client.get(url).status_code for url in ("/accounts/signup/", "/accounts/login/")} == {200}
    assert set(User.objects.values_list("username", flat=True)) == {"first"}


def test_without_cache_redis_it_goes_on(
    settings: Settings, sale: Sale, shopper: Shopper, frozen: Callable[[str], Any]
) -> None:
    """The limit of this one process counts; nobody sees an error."""
    settings.RATE_LIMIT_BUYER, settings.RATE_LIMIT_ADDRESS = TWO, MANY

    with frozen("redis-cache"):
        codes = [clicks.send(shopper, f"/sales/{sale.slug}/ticket").status_code for _ in range(5)]

    assert codes == [200, 200, 429, 429, 429]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a granian that limits each address to two and trusts one proxy."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port)),
        *("--blocking-threads", "2", "--log-level", "warning", "shop.wsgi:application"),
    ]
    said = {"RATE_LIMIT_EXEMPT": "", "RATE_LIMIT_ADDRESS": "1/2", "TRUSTED_PROXIES": "1", "ALLOWED_HOSTS": "*"}
    process = subprocess.Popen(command, env={**os.environ, **said}, cwd=Path(__file__).resolve().parents[2])
    try:
        eventually(lambda: answers(port, [])[0] != 0)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answers(port: int, forwarded: list[str]) -> tuple[int, str | None]:
    """Status and Retry-After for a request with these X-Forwarded-For lines; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.putrequest("POST", "/sales/none/ticket" if forwarded else "/livez")
        for line in forwarded:
            connection.putheader("X-Forwarded-For", line)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.getheader("Retry-After")
    except ConnectionError:
        return 0, None
    finally:
        connection.close()


def test_a_header_in_two_lines_is_one_list(port: int) -> None:
    """A lie in a line of its own, before our proxy's: the server that is really used joins them in their order."""
    codes = [answers(port, [f"10.0.0.{number}", CITY])[0] for number in range(3)]

    assert codes[2] == 429
    assert 429 not in codes[:2]
