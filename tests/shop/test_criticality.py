"""Each address has an importance, and nobody can choose a place among equals."""

from typing import Any

import pytest
from django.urls import URLPattern, URLResolver
from pytest_django import Settings

from resilience.admission import SHARDS
from shop import buyers, criticality, urls
from shop.criticality import Importance

#: Of each name in `urls.py`: an address of it, and what it matters to look there and to post there.
EXPECTED = {
    "sales": ("/", Importance.BROWSING, Importance.BROWSING),
    "sale": ("/sales/summer/", Importance.LOOKING, Importance.LOOKING),
    "state": ("/sales/summer/state", Importance.LOOKING, Importance.LOOKING),
    "mine": ("/sales/summer/mine", Importance.LOOKING, Importance.LOOKING),
    "ticket": ("/sales/summer/ticket", Importance.LOOKING, Importance.BUYING),
    "buy": ("/sales/summer/buy", Importance.LOOKING, Importance.BUYING),
    "reservation": ("/reservations/7-abc", Importance.FOLLOWING, Importance.FOLLOWING),
    "orders": ("/orders/", Importance.FOLLOWING, Importance.FOLLOWING),
    "order": ("/orders/S1/", Importance.FOLLOWING, Importance.FOLLOWING),
    "pay": ("/orders/S1/pay", Importance.FOLLOWING, Importance.BUYING),
    "cancel": ("/orders/S1/cancel", Importance.FOLLOWING, Importance.FOLLOWING),
    "payment-callback": ("/payments/callback", Importance.BROWSING, Importance.BUYING),
    "login": ("/accounts/login/", Importance.LOOKING, Importance.LOOKING),
    "logout": ("/accounts/logout/", Importance.LOOKING, Importance.LOOKING),
    "signup": ("/accounts/signup/", Importance.LOOKING, Importance.LOOKING),
    "language": ("/language/", Importance.BROWSING, Importance.BROWSING),
    "console": ("/admin/console/summer/", Importance.STAFF, Importance.STAFF),
    "admin": ("/admin/shop/sale/", Importance.STAFF, Importance.STAFF),
    "livez": ("/livez", Importance.EXEMPT, Importance.EXEMPT),
    "readyz": ("/readyz", Importance.EXEMPT, Importance.EXEMPT),
    "metrics": ("/metrics", Importance.EXEMPT, Importance.EXEMPT),
}


def _name(pattern: URLPattern | URLResolver) -> str:
    return str(pattern.name if isinstance(pattern, URLPattern) else pattern.namespace)


def test_every_address_has_an_importance() -> None:
    """A new one in `urls.py` has to say here what it matters, and in `criticality.py` unless that is nothing."""
    assert {_name(pattern) for pattern in urls.urlpatterns} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_what_it_matters(name: str) -> None:
    address, looking, posting = EXPECTED[name]

    assert criticality.of("GET", address) is criticality.of("HEAD", address) is looking
    assert criticality.of("POST", address) is posting


@pytest.mark.parametrize(
    "address", ["", "buy", "/buy", "/livez/", "/livez/x", "/adminx", "/x/sales/a/buy", "/payments/"]
)
def test_an_address_that_looks_like_another(address: str) -> None:
    """No part of an address makes it important, only its beginning and its end together."""
    assert criticality.of("POST", address) is Importance.BROWSING


def test_what_is_slow_by_nature_has_places_of_its_own() -> None:
    """Passwords and payments; nothing that a spike asks for."""
    slow = {name for name, (address, _, _) in EXPECTED.items() if criticality.is_slow("POST", address)}

    assert slow == {"login", "logout", "signup", "pay"}
    assert not any(criticality.is_slow("GET", address) for address, _, _ in EXPECTED.values())


def comes_from(address: str) -> dict[str, Any]:
    return {"REMOTE_ADDR": address}


def test_who_says_no_name_is_known_by_the_household(settings: Settings) -> None:
    """An IPv6 customer has one place, whichever of its addresses it takes; behind our proxy, it is the client's."""
    home = {criticality.shard_of(None, comes_from(f"2001:db8:0:7::{number}")) for number in range(20)}
    streets = {criticality.shard_of(None, comes_from(f"2001:db8:0:{number}::1")) for number in range(20)}
    settings.TRUSTED_PROXIES = 1
    proxied = {
        criticality.shard_of(None, {**comes_from("10.0.0.1"), "HTTP_X_FORWARDED_FOR": f"1.1.1.1, 203.0.113.{number}"})
        for number in range(20)
    }

    assert len(home) == 1
    assert len(streets) > 10
    assert len(proxied) > 10


def test_a_buyer_has_one_place() -> None:
    """From whatever address and device, with whatever cookie: coming back does not improve it."""
    places = {criticality.shard_of(buyers.cookie_for(17), comes_from(f"203.0.113.{n}")) for n in range(20)}

    assert len(places) == 1


def test_a_rotated_key_moves_nobody(settings: Settings) -> None:
    """The cookie's first characters name the key, too; they do not count."""
    before = criticality.shard_of(buyers.cookie_for(17), {})
    settings.BUYER_KEYS = ["another key, as long as the others are", *settings.BUYER_KEYS]
    buyers._seal.cache_clear()
    try:
        cookie = buyers.cookie_for(17)
    finally:
        buyers._seal.cache_clear()

    assert criticality.shard_of(cookie, {}) == before


def test_people_are_spread_over_all_places() -> None:
    """Ten thousand buyers, 128 places: none is empty and none is crowded."""
    places = [criticality.shard_of(buyers.cookie_for(number), {}) for number in range(10_000)]

    counts = [places.count(place) for place in range(SHARDS)]
    assert min(counts) > 10_000 / SHARDS / 3
    assert max(counts) < 10_000 / SHARDS * 3


def test_places_change_with_the_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is the unlucky one for longer."""
    places = set()
    for hour in range(40):
        monkeypatch.setattr(criticality.time, "time", lambda hour=hour: 1_700_000_000 + hour * 3_600)
        places.add(criticality.shard_of(buyers.cookie_for(17), {}))

    assert len(places) > 20


@pytest.mark.parametrize("cookie", ["", "x", "\udcff" * 16, "=" * 16, "a" * 17, "é" * 64, "b" * 15])
def test_a_cookie_that_is_none(cookie: str) -> None:
    """Whatever somebody sends has a place, and no error."""
    assert 0 <= criticality.shard_of(cookie, comes_from("203.0.113.9")) < SHARDS
    assert 0 <= criticality.shard_of(cookie, comes_from("\udcff")) < SHARDS
