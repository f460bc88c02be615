"""What everybody sees: the same bytes for all who speak a language, and the live state beside them."""

import gzip
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from inventory import _connection, _keys, reservations
from inventory.outcomes import Wish
from resilience.clock import now_ms
from shop import catalog, opening, pages
from shop.models import Product, Sale
from tests.conftest import AN_HOUR, Shopper
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.people import reservation_id
from tests.shop import clicks
from tests.shop.clicks import JSON, PAGE

MakeSale = Callable[..., Sale]


@pytest.fixture(autouse=True)
def no_page_is_remembered(transactional_db: None) -> None:
    """Every test starts with cold caches and a shop of its own."""


#: A fresh time that is over before the next request.
SOON_OVER_SECONDS = 0.001
#: Addresses that nobody has published.
STRANGE_ADDRESSES = 10_000
#: Loads inside each other, more than any page has.
DEPTH = 20


def forget_everything() -> None:
    """As if the caches' seconds had passed."""
    caches["default"].clear()


def language_of(page: Any) -> str:
    return str(page.content.decode().partition('<html lang="')[2].partition('"')[0])


@pytest.mark.parametrize("path", ["/", "/sales/lamps/"])
def test_a_page_is_the_same_bytes_for_everybody(
    make_sale: MakeSale, make_shopper: Callable[[], Client], client: Client, path: str
) -> None:
    """A stranger, a buyer, one who has bought, staff with a session, and one who comes from an odd link."""
    sale = make_sale(slug="lamps")
    buyer, owner, staff = make_shopper(), make_shopper(), Client()
    clicks.hold(owner, sale)
    staff.force_login(User.objects.create(username="staff", is_staff=True))

    def rendered_for(who: Client, query: str = "") -> bytes:
        forget_everything()
        return bytes(who.get(path + query, headers=PAGE).content)

    pages = [rendered_for(who) for who in (staff, owner, buyer, client)]
    pages += [rendered_for(client, "?next=//evil.example&a=%ff%00")]

    assert len(set(pages)) == 1
    assert b"csrf" not in pages[0]
    assert "Set-Cookie" not in client.get(path)


@pytest.mark.parametrize("path", ["/", "/sales/lamps/"])
def test_a_page_that_the_reader_has_is_not_sent_again(make_sale: MakeSale, client: Client, path: str) -> None:
    """304 without a body for the ETag, strong or weak, plain or compressed; 200 for another one."""
    make_sale(slug="lamps")
    etag = client.get(path)["ETag"]

    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        for encoding in ("identity", "gzip"):
            again = client.get(path, headers={"if-none-match": known, "accept-encoding": encoding})
            assert (again.status_code, again.content) == (304, b"")
            assert again["X-Server-Now-Ms"]
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/sales/lamps/"])
def test_a_page_travels_compressed(make_sale: MakeSale, client: Client, path: str) -> None:
    """gzip for those who take it, with the same page inside."""
    make_sale(slug="lamps")
    plain = client.get(path)

    packed = client.get(path, headers={"accept-encoding": "gzip, br"})

    assert (packed["Content-Encoding"], packed["ETag"]) == ("gzip", f"W/{plain['ETag']}")
    assert gzip.decompress(packed.content) == plain.content
    assert len(packed.content) < len(plain.content)
    assert int(packed["Content-Length"]) == len(packed.content)
    unchanged = client.get(path, headers={"accept-encoding": "gzip", "if-none-match": packed["ETag"]})
    for answer in (plain, packed, unchanged):
        assert {"Accept-Encoding", "Accept-Language", "Cookie"} <= {word.strip() for word in answer["Vary"].split(",")}
    assert unchanged["ETag"] == packed["ETag"]
    for refusal in ("gzip;q=0", "br, gzip; q=0.000, identity", "", "identity"):
        assert "Content-Encoding" not in client.get(path, headers={"accept-encoding": refusal})
    for wish in ("GZIP", "br;q=0, gzip;q=0.5", "gzip;q=0.01"):
        assert client.get(path, headers={"accept-encoding": wish})["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({}, "en"),
        ({"accept-language": "zh-CN,zh;q=0.9"}, "zh-hans"),
        ({"accept-language": "zh"}, "zh-hans"),
        ({"accept-language": "de-DE, fr;q=0.5"}, "en"),
        ({"accept-language": "de, zh-Hans;q=0.5"}, "zh-hans"),
        ({"accept-language": "*"}, "en"),
        ({"accept-language": "'; DROP TABLE--" * 100}, "en"),
        ({"accept-language": "zh", "cookie": "lang=en"}, "en"),
        ({"cookie": "lang=zh-hans"}, "zh-hans"),
        ({"cookie": "lang=de"}, "en"),
        ({"cookie": "lang=../../etc/passwd"}, "en"),
        ({"cookie": f"lang={'a' * 3000}"}, "en"),
    ],
)
def test_a_page_speaks_english_or_chinese(sale: Sale, client: Client, headers: dict[str, str], language: str) -> None:
    """The cookie decides, else Accept-Language; whatever else they say comes down to one of the two."""
    for path in ("/", f"/sales/{sale.slug}/"):
        page = client.get(path, headers=headers)
        assert (page.status_code, page["Content-Language"], language_of(page)) == (200, language, language)


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_page_keeps_its_language_when_it_is_rendered_again(
    sale: Sale, client: Client, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    """In the background, by a thread that knows of no reader and no language."""
    monkeypatch.setattr("shop.pages.PAGE_SECONDS", SOON_OVER_SECONDS)
    cache, headers = caches["default"], {"accept-language": language}
    key = pages.sale_key(sale.slug, language)

    def look() -> object:
        assert language_of(client.get(f"/sales/{sale.slug}/", headers=headers)) == language
        return cache.stack.memory.find(key)

    first = look()
    eventually(lambda: look() is not first)


def test_each_language_has_its_own_bytes(sale: Sale, client: Client) -> None:
    """Readers of both languages, one right after the other: nobody gets the other's page from the cache."""
    for path in ("/", f"/sales/{sale.slug}/"):
        for language in ("en", "zh-hans", "en"):
            assert language_of(client.get(path, headers={"accept-language": language})) == language


def test_the_language_button(sale: Sale, client: Client) -> None:
    """It sets the cookie and comes back; a language that is not spoken changes nothing."""
    answer = client.post("/language/", {"language": "zh-hans", "next": f"/sales/{sale.slug}/"})
    assert (answer.status_code, answer["Location"]) == (302, f"/sales/{sale.slug}/")
    assert language_of(client.get("/")) == "zh-hans"

    client.post("/language/", {"language": "tlh"})
    assert language_of(client.get("/")) == "zh-hans"
    assert client.post("/language/", {"language": "en", "next": "https://evil.example/"})["Location"] == "/"


def test_a_refusal_is_in_the_readers_language(make_sale: MakeSale, client: Client) -> None:
    """Also when it is spoken before the page is chosen, by whatever thread served somebody else just before."""
    sale = make_sale()
    foreign = {**PAGE, "origin": "https://evil.example"}
    for language in ("zh-hans", "en"):
        client.get("/", headers={"cookie": f"lang={'en' if language == 'zh-hans' else 'zh-hans'}"})
        refused = client.post(f"/sales/{sale.slug}/buy", headers={**foreign, "cookie": f"lang={language}"})
        assert (refused.status_code, language_of(refused)) == (403, language)


EVERYWHERE = [
    ("GET", "/", 200),
    ("GET", "/sales/no-such-sale/", 404),
    ("GET", "/no/such/page", 404),
    ("GET", "/orders", 301),
    ("GET", "/orders/", 401),
    ("POST", "/", 405),
    ("GET", "/static/shop/shop.css", 200),
    ("GET", "/static/no-such-file", 404),
    ("GET", "/livez", 200),
    ("GET", "/admin/", 302),
    ("POST", "/payments/callback", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
def test_every_answer_has_a_name_and_the_time(client: Client, method: str, path: str, status: int) -> None:
    """X-Request-Id to ask about it, X-Server-Now-Ms to count down by, a policy for what a page may load."""
    answer = client.generic(method, path)

    assert answer.status_code == status
    assert abs(int(answer["X-Server-Now-Ms"]) - now_ms()) < 5_000
    assert len(answer["X-Request-Id"]) == 32
    assert "default-src 'self'" in answer["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/nothing", "/static/nothing", "/"])
def test_a_wrong_host_has_a_name_too(client: Client, path: str) -> None:
    """Also what is refused before any view sees it."""
    assert client.get(path, headers={"host": "evil.example"})["X-Request-Id"]


def test_a_clients_own_name_for_a_request_is_kept(client: Client) -> None:
    """When it is a decent one; what could break a line of a log is replaced."""
    assert client.get("/livez", headers={"x-request-id": "from-the-edge_01"})["X-Request-Id"] == "from-the-edge_01"
    for odd in ("short", "a" * 65, "with space in it", "line\nbreak-line", "é" * 8, "‮rtl-rtl-rtl", ""):
        assert len(client.get("/livez", headers={"x-request-id": odd})["X-Request-Id"]) == 32


def state_of(client: Client, sale: Sale) -> dict[str, Any]:
    forget_everything()
    answer = client.get(f"/sales/{sale.slug}/state", headers=JSON)
    assert answer.status_code == 200
    return dict(answer.json())


def test_the_state_says_it_all(make_sale: MakeSale, client: Client) -> None:
    """Phase, window, when to ask again, and the counters of each offer; they add up."""
    sale = make_sale(quantity=20, limit=3)
    offer = sale.offers.get()
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7, 3)])

    state = state_of(client, sale)

    [counted] = state.pop("offers")
    assert state == {
        "phase": "open",
        "opens_at_ms": int(sale.opens_at.timestamp() * 1000),
        "closes_at_ms": int(sale.closes_at.timestamp() * 1000),
        "poll_after_ms": catalog.POLL_MS["open"],
    }
    assert counted == {
        "id": offer.pk,
        "available": 17,
        "held": 3,
        "sold": 0,
        "quantity": 20,
        "price_minor": 9_900,
        "currency": "CNY",
    }


def test_the_state_is_fresh_enough(sale: Sale, client: Client) -> None:
    """What happened is seen within 2.5 s, and nobody's poll reads older than that."""
    offer, url = sale.offers.get(), f"/sales/{sale.slug}/state"
    client.get(url)
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7, 1)])

    deadline_ms = now_ms() + 2_500
    while client.get(url).json()["offers"][0]["held"] == 0:
        assert now_ms() < deadline_ms


def test_a_state_that_the_reader_has_is_not_sent_again(sale: Sale, client: Client) -> None:
    """304 while nothing changes, with the time beside it; 200 with another ETag when a unit moves."""
    offer, url = sale.offers.get(), f"/sales/{sale.slug}/state"
    etag = client.get(url)["ETag"]
    forget_everything()
    again = client.get(url, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again["X-Server-Now-Ms"]

    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7, 1)])
    forget_everything()
    assert client.get(url, headers={"if-none-match": etag})["ETag"] != etag


def test_the_phases(make_sale: MakeSale, client: Client) -> None:
    """Scheduled, open, sold out and open again; paused and closed by staff; closed by the clock; paused by a loss."""
    assert state_of(client, make_sale(opens_in=AN_HOUR))["phase"] == "scheduled"
    assert state_of(client, make_sale(opens_in=-3 * AN_HOUR))["phase"] == "closed"

    sale = make_sale(quantity=1)
    offer = sale.offers.get()
    assert state_of(client, sale)["phase"] == "open"
    name = reservation_id(offer)
    reservations.reserve(offer.pk, [Wish(name, 7, 1)])
    assert state_of(client, sale)["phase"] == "sold_out"
    clicks.record(offer)
    reservations.release(name)
    clicks.counters(offer)
    assert state_of(client, sale)["phase"] == "open"

    opening.pause(sale)
    assert state_of(client, sale)["phase"] == "paused"
    opening.resume(sale)
    assert state_of(client, sale)["phase"] == "open"
    _connection.stock_redis().delete(_keys.units(offer.pk))
    assert state_of(client, sale)["phase"] == "paused"
    opening_again = make_sale()
    opening.close(opening_again)
    assert state_of(client, opening_again)["phase"] == "closed"


def test_staff_are_seen_at_once(sale: Sale, client: Client) -> None:
    """A pause does not wait for a cached fact to grow old."""
    url = f"/sales/{sale.slug}/state"
    assert client.get(url).json()["phase"] == "open"

    opening.pause(sale)

    assert client.get(url).json()["phase"] == "paused"


def test_drafts_and_archived_sales_do_not_exist(make_sale: MakeSale, client: Client) -> None:
    """Neither on the front page nor at their own address, by any verb."""
    now = timezone.now()
    draft = Sale.objects.create(slug="secret", title="Not yet", opens_at=now, closes_at=now + timedelta(hours=1))
    opening.add_offer(draft, Product.objects.create(title="A", list_price_minor=2), price_minor=1, quantity=1)
    over = make_sale(slug="over")
    opening.close(over)
    assert opening.archive(over)
    shown = make_sale(slug="shown")

    front = client.get("/").content.decode()
    assert shown.title in front
    assert draft.title not in front
    assert f"/sales/{over.slug}/" not in front
    for slug in ("secret", "over", "no-such-sale", "a" * 60, "a" * 200):
        for path in ("", "state", "mine"):
            answer = client.get(f"/sales/{slug}/{path}")
            assert (answer.status_code, answer.json()["outcome"]) == (404, "NOT_FOUND")
    for path in ("", "state", "mine"):
        assert client.get(f"/sales/shown/{path}").status_code == 200


def test_a_lost_reader_gets_a_page(client: Client) -> None:
    """404 as a page that leads back, with the request's name on it."""
    for path in ("/sales/no-such-sale/", "/no/such/page", "/sales/%00/", "/sales/../../etc/passwd"):
        page = client.get(path, headers=PAGE)
        assert page.status_code == 404
        assert page["X-Request-Id"] in page.content.decode()
        assert 'href="/"' in page.content.decode()


def test_the_front_page_is_in_order(make_sale: MakeSale, client: Client) -> None:
    """The next to open first, what is over last."""
    for slug, opens_in in (("over", -4), ("later", 2), ("now", -1), ("soon", 1)):
        make_sale(slug=slug, opens_in=opens_in * AN_HOUR)

    front = client.get("/").content.decode()

    places = [front.index(f'href="/sales/{slug}/"') for slug in ("now", "soon", "later", "over")]
    assert places == sorted(places)


def test_a_page_costs_no_query_while_it_is_cached(
    sale: Sale, client: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """Neither the page nor the state asks PostgreSQL twice, nor does an address that names no sale."""
    paths = ("/", f"/sales/{sale.slug}/", f"/sales/{sale.slug}/state", "/sales/no-such-sale/")
    for path in paths:
        client.get(path)

    with django_assert_num_queries(0):
        for path in paths:
            client.get(path)


def test_random_addresses_cost_nothing(
    sale: Sale, client: Client, django_assert_num_queries: Callable[[int], Any]
) -> None:
    """Ten thousand that nobody has published: no query, no load, and no tier is asked for any of them."""
    cache = caches["default"]
    catalog.sale(sale.slug)
    before = cache.tally()

    with django_assert_num_queries(0):
        for number in range(STRANGE_ADDRESSES):
            assert catalog.sale(f"random-{number}") is None
            assert pages.of_sale(f"random-{number}", "en") is None
        assert client.get("/sales/random/").status_code == 404

    after = {event: number - before[event] for event, number in cache.tally().items()}
    assert (after["loads"], after["negative"], cache.tally("sale:random-1")["loads"]) == (0, 0, 0)
    assert after["memory"] + after["memcached"] + after["redis"] + after["stale"] == 2 * STRANGE_ADDRESSES + 1
    assert len(cache.stack.memory) < STRANGE_ADDRESSES


def test_what_a_page_is_made_of_is_read_once_a_load(sale: Sale, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of the same cached bytes get the same object; another load, another one."""
    monkeypatch.setattr("shop.pages.PAGE_SECONDS", AN_HOUR.total_seconds())
    first = pages.of_sale(sale.slug, "en")
    assert pages.of_sale(sale.slug, "en") is first

    forget_everything()

    again = pages.of_sale(sale.slug, "en")
    assert again is not first
    assert again == first


def test_no_page_waits_for_itself(sale: Sale, client: Client) -> None:
    """A page is rendered under the lease of its key, and its facts are loaded under theirs."""
    came: list[int] = []

    def look() -> None:
        for path in ("/", f"/sales/{sale.slug}/", f"/sales/{sale.slug}/state"):
            forget_everything()
            came.append(client.get(path).status_code)
        connection.close()

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    reader.join(PATIENCE_SECONDS)

    assert came == [200, 200, 200]


def test_a_load_may_read_other_keys() -> None:
    """Twenty loads inside each other come to their end."""
    cache = caches["default"]

    def nested(depth: int) -> int:
        return 0 if depth == 0 else 1 + cache.get_or_set(f"nested:{depth}", lambda: nested(depth - 1), 10)

    answers: list[int] = []
    reader = threading.Thread(target=lambda: answers.append(nested(DEPTH)), daemon=True)
    reader.start()
    reader.join(PATIENCE_SECONDS)

    assert answers == [DEPTH]


def test_selling_goes_on_without_postgresql(sale: Sale, shopper: Shopper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its facts ran out of the caches while PostgreSQL is away: what was last known of the sale serves on."""
    monkeypatch.setattr("shop.catalog.FACTS_SECONDS", SOON_OVER_SECONDS)
    assert shopper.get(f"/sales/{sale.slug}/").status_code == 200

    for load in ("_load_slugs", "_load_facts", "_load_list"):
        monkeypatch.setattr(f"shop.catalog.{load}", away)

    ticket = shopper.send(f"/sales/{sale.slug}/ticket").json()["ticket"]
    click = shopper.send(f"/sales/{sale.slug}/buy", ticket=ticket)
    assert click.status_code == 202
    page = shopper.get(click.json()["status_url"], headers={"accept": "text/html"})
    assert page.status_code == 200


def away(*_: object) -> None:
    raise OperationalError("PostgreSQL is away")


def test_head_is_a_get_without_its_body(sale: Sale, client: Client) -> None:
    """Whoever only wants to know whether it is there is told."""
    for path in ("/", f"/sales/{sale.slug}/", f"/sales/{sale.slug}/state"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
