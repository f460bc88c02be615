"""The express lane: what it answers by itself, what it hands on, and whom it turns away."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from resilience.clock import now_ms
from resilience.degradation import Level, Situation, current
from shop import express
from shop.criticality import Importance
from shop.models import Sale
from shop.urls import urlpatterns
from tests.conftest import Shopper
from tests.crowd import eventually
from tests.shop import doors
from tests.shop.clicks import JSON, PAGE
from tests.shop.doors import ThroughExpress, shown

#: Milliseconds that nobody may have waited.
FOR_EVER_MS = 5_000


@pytest.fixture
def buyer(shopper: Shopper) -> ThroughExpress:
    """The shopper, through the express lane."""
    client = ThroughExpress()
    client.cookies = shopper.cookies
    return client


@pytest.fixture
def level() -> Iterator[Any]:
    """`level(Level.SHED)`: the service is that degraded."""

    def be(level: Level) -> None:
        current.situation = Situation(level)

    yield be
    current.situation = Situation()


def _ticket(buyer: ThroughExpress, sale: Sale) -> str:
    return str(buyer.post(f"/sales/{sale.slug}/ticket", {}, "application/json", headers=JSON).json()["ticket"])


def test_a_whole_purchase_stays_in_the_lane(buyer: ThroughExpress, sale: Sale) -> None:
    """Front page, page, state, what is mine, ticket, click, poll: Django is not asked."""
    lanes = []
    for path in ("/", f"/sales/{sale.slug}/", f"/sales/{sale.slug}/state", f"/sales/{sale.slug}/mine"):
        assert buyer.get(path).status_code == 200
        lanes.append(buyer.last_lane)
    bought = buyer.post(f"/sales/{sale.slug}/buy", {"ticket": _ticket(buyer, sale)}, "application/json", headers=JSON)
    lanes.append(buyer.last_lane)
    poll = buyer.get(bought.json()["status_url"], headers=JSON)
    lanes.append(buyer.last_lane)

    assert (bought.status_code, poll.json()["state"]) == (202, "held")
    assert set(lanes) == {"express"}


def test_both_lanes_answer_the_same(buyer: ThroughExpress, shopper: Shopper, sale: Sale) -> None:
    """Each hot address, as JSON and as a page, whole and as 304, in both languages: status, headers and body."""
    ticket = _ticket(buyer, sale)
    bought = buyer.post(f"/sales/{sale.slug}/buy", {"ticket": ticket}, "application/json", headers=JSON)
    state = f"/sales/{sale.slug}/state"
    eventually(lambda: buyer.get(state).json()["offers"][0]["held"] == 1)  # nothing changes any more
    paths = ["/", f"/sales/{sale.slug}/", state, f"/sales/{sale.slug}/mine"]
    paths += [bought.json()["status_url"], f"/reservations/7-{'A' * 22}"]
    etag = buyer.get(f"/sales/{sale.slug}/").headers["ETag"]

    for path in paths:
        for headers in (
            *(JSON, PAGE, {"accept-language": "zh-CN"}, {"accept-language": "xx"}, {"accept-encoding": "gzip"}),
            *({"if-none-match": etag}, {"if-none-match": "*"}, {"if-none-match": f'W/{etag}, "x"'}),
        ):
            for client in (Client(), shopper):
                ours = ThroughExpress()
                ours.cookies = client.cookies
                assert shown(ours.get(path, headers=headers)) == shown(client.get(path, headers=headers)), path
                assert ours.last_lane == "express"


def test_a_repeated_click_is_the_same_through_both_lanes(buyer: ThroughExpress, shopper: Shopper, sale: Sale) -> None:
    """As JSON, and as a form, whose receipt is a cookie."""
    ticket = _ticket(buyer, sale)
    first = buyer.post(f"/sales/{sale.slug}/buy", {"ticket": ticket}, "application/json", headers=JSON)

    again = shopper.post(f"/sales/{sale.slug}/buy", {"ticket": ticket}, "application/json", headers=JSON)
    forms = [client.post(f"/sales/{sale.slug}/buy", {"ticket": ticket}, headers=PAGE) for client in (buyer, shopper)]

    assert (first.json()["outcome"], again.json()["outcome"]) == ("RESERVED", "REPEATED")
    assert first.json()["reservation"] == again.json()["reservation"]
    assert [form.status_code for form in forms] == [303, 303]
    assert forms[0]["Location"] == forms[1]["Location"]
    assert set(forms[0].cookies) == set(forms[1].cookies) == {"receipt"}


@pytest.mark.parametrize("path", ["/orders/", "/admin/", "/livez", "/accounts/login/", "/sales/x/y", "/nothing"])
def test_everything_else_goes_on(path: str, db: None) -> None:
    client = ThroughExpress()

    client.get(path)

    assert client.last_lane == "pages"


def test_a_foreign_host_is_refused_by_django(sale: Sale) -> None:
    client = ThroughExpress()

    assert client.get("/", headers={"host": "evil.example", **JSON}).status_code == 400
    assert client.last_lane == "pages"


def test_the_hot_addresses_are_those_of_django(sale: Sale) -> None:
    """The lane calls the views that `urls.py` names, by the same names."""
    views = {pattern.name: pattern.callback for pattern in urlpatterns if getattr(pattern, "name", None)}
    paths = ["/", *(f"/sales/x/{verb}" for verb in express.OF_SALE), "/reservations/x"]

    for path in paths:
        found = express.route(path)
        assert found is not None
        assert views[found[1]] is found[0]


def test_made_up_addresses_do_not_fill_the_memory() -> None:
    """More of them than are remembered are answered all the same, and long ones are not remembered at all."""
    express._of_sale.cache_clear()
    long_slug = "x" * express.ADDRESS_CHARACTERS

    found = [express.route(f"/sales/{slug}/state") for slug in (*range(2 * express.ADDRESSES_REMEMBERED), long_slug)]

    assert [each and each[3]["slug"] for each in found[-2:]] == [str(2 * express.ADDRESSES_REMEMBERED - 1), long_slug]
    remembered = express._of_sale.cache_info()
    assert (remembered.currsize, remembered.misses) == (express.ADDRESSES_REMEMBERED, len(found) - 1)


@pytest.mark.parametrize(("which", "importance"), [("", Importance.LOOKING), ("state", Importance.LOOKING)])
def test_who_waited_too_long_is_turned_away(settings: Settings, sale: Sale, which: str, importance: Importance) -> None:
    """By the stamp of the edge; with constant bytes and a time to come back."""
    settings.TRUSTED_PROXIES = 1
    client, path = ThroughExpress(), f"/sales/{sale.slug}/{which}"
    stamp = f"t={(now_ms() - FOR_EVER_MS) / 1000:.3f}"

    late = client.get(path, headers={"x-request-start": stamp, **JSON})
    in_time = client.get(path, headers={"x-request-start": f"t={now_ms() / 1000:.3f}", **JSON})

    assert (late.status_code, late.json()["outcome"]) == (503, "BUSY")
    assert int(late["Retry-After"]) >= 1
    assert late["X-Request-Id"]
    assert in_time.status_code == 200
    eventually(lambda: doors._lane().lateness.figures(2.0).refused[importance] >= 1)


def test_a_late_click_changes_nothing(settings: Settings, buyer: ThroughExpress, sale: Sale) -> None:
    """BUSY says that nothing was sent, and the same ticket buys afterwards."""
    ticket = _ticket(buyer, sale)
    settings.TRUSTED_PROXIES = 1
    stamp = f"t={(now_ms() - FOR_EVER_MS) / 1000:.3f}"
    path, fields = f"/sales/{sale.slug}/buy", {"ticket": ticket}

    late = buyer.post(path, fields, "application/json", headers={"x-request-start": stamp, **JSON})
    again = buyer.post(path, fields, "application/json", headers=JSON)

    assert (late.status_code, late.json()["outcome"]) == (503, "BUSY")
    assert (again.status_code, again.json()["outcome"]) == (202, "RESERVED")


def test_without_an_edge_no_stamp_is_believed(sale: Sale) -> None:
    """A client could only harm itself with one."""
    client = ThroughExpress()

    assert client.get(f"/sales/{sale.slug}/", headers={"x-request-start": "t=1700000000.000"}).status_code == 200


def test_levels_are_the_doors_business(level: Any, buyer: ThroughExpress, sale: Sale) -> None:
    """At SHED pages and lists go to the door, at STATIC everything does; a click stays until then."""
    lanes = {}
    for each in (Level.BROWNOUT, Level.SHED, Level.STATIC):
        level(each)
        for name, path in (("page", f"/sales/{sale.slug}/"), ("poll", f"/reservations/7-{secrets.token_urlsafe(16)}")):
            buyer.get(path, headers=JSON)
            lanes[each.name, name] = buyer.last_lane

    assert lanes == {
        **{("BROWNOUT", name): "express" for name in ("page", "poll")},
        ("SHED", "page"): "pages",
        ("SHED", "poll"): "express",
        **{("STATIC", name): "pages" for name in ("page", "poll")},
    }
