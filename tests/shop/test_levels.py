"""What goes at which level, on real pages; and what the thread of a process makes of what it sees."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache as django_cache
from django.test import Client
from pytest_django import Settings

from resilience.breaker import Breaker, BreakerOpen
from resilience.cache.envelope import unpack
from resilience.degradation import Level, Situation, current
from resilience.queue_figures import Figures
from shop import catalog, level_watch, levels, pages
from shop.models import Offer, Sale
from tests.conftest import Shopper
from tests.crowd import eventually
from tests.shop import clicks

pytestmark = pytest.mark.django_db(transaction=True)

HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def at() -> Iterator[Callable[[Level], None]]:
    """`at(Level.SHED)`; NORMAL again afterwards."""

    def go(level: Level) -> None:
        current.situation = Situation(level)

    yield go
    current.situation = Situation()
    logging.root.setLevel(logging.WARNING)


At = Callable[[Level], None]


# --- Pages -----------------------------------------------------------------------------------------------------------


def test_how_many_are_ahead_goes_first(at: At, shopper: Shopper, offer: Offer) -> None:
    """The waiting page and its poll say no number then, and ask more seldom."""
    status_url = clicks.hold(shopper, offer.sale)["status_url"]
    seen = {}
    for level in Level:
        at(level)
        seen[level.name] = shopper.get(status_url).json()
        page = shopper.get(status_url, headers=HTML).content.decode()
        assert f'http-equiv="refresh" content="{levels.POLL_TIMES[level]}"' in page
        assert "data-ahead hidden" in page

    assert [("ahead" in said, said["poll_after_ms"]) for said in seen.values()] == [
        (True, 500),
        (False, 1_000),
        (False, 2_000),
        (False, 2_000),
    ]
    assert all(said["state"] == "held" for said in seen.values())


def test_a_click_is_told_to_ask_more_seldom(at: At, shopper: Shopper, offer: Offer) -> None:
    """By the same pace as the waiting page."""
    at(Level.SHED)

    assert clicks.hold(shopper, offer.sale)["poll_after_ms"] == 2_000


def test_the_state_of_a_sale_is_asked_for_more_seldom(at: At, client: Client, sale: Sale) -> None:
    """As soon as its bytes are made anew, with each look at the counters, which are there at every level."""

    def state() -> Any:
        return client.get(f"/sales/{sale.slug}/state").json()

    for level, pace in zip(Level, (1_000, 2_000, 4_000, 4_000), strict=True):
        at(level)
        eventually(lambda pace=pace: state()["poll_after_ms"] == pace)
        assert (state()["phase"], state()["offers"][0]["available"]) == ("open", 20)


def test_what_is_mine_goes_at_shed(at: At, shopper: Shopper, sale: Sale) -> None:
    """Then it says that it is back soon, rather than that there is nothing; and Buy still knows its own."""
    bought = clicks.hold(shopper, sale)
    mine = f"/sales/{sale.slug}/mine"
    at(Level.BROWNOUT)
    assert [each["reservation"] for each in shopper.get(mine).json()["reservations"]] == [bought["reservation"]]

    at(Level.SHED)
    answer = shopper.get(mine)

    assert (answer.status_code, answer.json()["outcome"], answer["Retry-After"]) == (503, "BUSY", "10")
    assert answer["Cache-Control"] == "no-store"
    assert shopper.get(f"/sales/{sale.slug}/").status_code == 200


def test_new_accounts_go_at_shed_and_signing_in_stays(at: At, client: Client) -> None:
    """Nobody is made; a page says so, and the door that is kept for buyers is open."""
    User.objects.create_user("ann", password="flash-sale-9")
    form = {"username": "bob", "password1": "flash-sale-9", "password2": "flash-sale-9"}
    at(Level.SHED)

    for answer in (client.get("/accounts/signup/", headers=HTML), client.post("/accounts/signup/", form, headers=HTML)):
        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        assert b"back soon" in answer.content
    assert not User.objects.filter(username="bob").exists()
    assert client.post("/accounts/login/", {"username": "ann", "password": "flash-sale-9"}).status_code == 302

    at(Level.BROWNOUT)
    assert Client().post("/accounts/signup/", form).status_code == 303


def test_search_in_long_lists_goes_at_shed(at: At) -> None:
    """The lists stay, without the box; an address that searches all the same shows the list. Short ones keep theirs."""
    staff = Client()
    staff.force_login(User.objects.create_superuser("boss"))
    for address in ("/admin/shop/order/", "/admin/shop/payment/", "/admin/inventory/reservation/"):
        at(Level.BROWNOUT)
        assert b'id="searchbar"' in staff.get(address).content, address

        at(Level.SHED)
        answer = staff.get(address, {"q": "nobody"}, follow=True)
        assert answer.status_code == 200
        assert b'id="searchbar"' not in answer.content, address
    assert b'id="searchbar"' in staff.get("/admin/shop/sale/").content


# --- Caches ----------------------------------------------------------------------------------------------------------


def fresh_seconds(key: str) -> float:
    """How long the cached value is good for, as the third tier has it."""
    cache: Any = django_cache
    [entry] = cache.stack.redis.read([key]).values()
    return unpack(entry).fresh_ms / 1000


@pytest.mark.parametrize(
    ("level", "page", "facts", "live"),
    [(Level.NORMAL, 1, 30, 0.5), (Level.BROWNOUT, 5, 150, 1.25), (Level.STATIC, 5, 150, 1.25)],
)
def test_cached_values_last_longer(at: At, sale: Sale, level: Level, page: int, facts: int, live: float) -> None:
    """By how much they are spread is a tenth; live counters stay within what clients are promised."""
    at(level)
    pages.of_sale(sale.slug, "en")

    for key, seconds in (
        (pages.sale_key(sale.slug, "en"), page),
        (catalog.facts_key(sale.slug), facts),
        (catalog.live_key(sale.slug), live),
    ):
        assert fresh_seconds(key) == pytest.approx(seconds, rel=0.11), key
    assert catalog.LIVE_SECONDS * catalog.LIVE_STRETCH * 1.1 + catalog.LIVE_STALE_SECONDS < 2.5


# --- The thread of a process -----------------------------------------------------------------------------------------


def seen(arrived: tuple[int, ...], refused: tuple[int, ...], delay: float = 0.0) -> Callable[[float], Figures]:
    return lambda _seconds: Figures(arrived, refused, delay)


def ticked(watch: level_watch.Watch, times: int = 2) -> Level:
    for tick in range(times):
        watch.tick(1_000 + tick * level_watch.TICK_SECONDS)
    return current.level


@pytest.mark.parametrize(
    ("figures", "level"),
    [
        (None, Level.NORMAL),
        (seen((0, 0, 0, 0), (0, 0, 0, 0)), Level.NORMAL),
        (seen((0, 0, 0, 3), (0, 0, 0, 1)), Level.NORMAL),  # three buyers are no crowd
        (seen((100, 100, 100, 100), (90, 80, 0, 0)), Level.BROWNOUT),
        (seen((100, 100, 100, 100), (100, 100, 50, 0)), Level.SHED),
        (seen((100, 100, 100, 100), (0, 0, 0, 0), delay=0.2), Level.BROWNOUT),
    ],
)
def test_the_queue_at_the_door_decides(figures: Callable[[float], Figures] | None, level: Level) -> None:
    """By what was seen in two looks."""
    assert ticked(level_watch.Watch(figures)) == level


@pytest.mark.parametrize(("name", "level"), [("stock Redis", Level.BROWNOUT), ("memcached nowhere", Level.NORMAL)])
def test_only_stock_redis_is_stood_in_for(name: str, level: Level) -> None:
    """Of other dependencies the features are gone, and no others; and nothing that is away makes us SHED."""
    away = Breaker(name)
    for _ in range(30):
        try:
            with away.watching():
                raise ConnectionError
        except (ConnectionError, BreakerOpen):
            continue
    assert away.state == "open"

    assert ticked(level_watch.Watch()) == level


def test_a_broken_window_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """The thread says so and looks again."""

    def breaks(_seconds: float) -> Figures:
        ended.set()
        raise ZeroDivisionError("no figures")

    ended = threading.Event()
    level_watch.Watch(breaks).run(ended)

    assert "a look at the level failed" in caplog.text


def test_the_environment_goes_before_everybody(settings: Settings) -> None:
    """The glass is broken: whatever the queue says."""
    settings.LEVEL = "STATIC"

    assert ticked(level_watch.Watch(), times=1) == Level.STATIC
    assert current.situation.is_forced


def test_info_lines_go_and_come_back(settings: Settings) -> None:
    """Of a service that is told to write them; audit lines are not asked for a level of the root."""
    settings.LOG_LEVEL = "INFO"
    logging.root.setLevel(logging.INFO)
    settings.LEVEL = "BROWNOUT"
    watch = level_watch.Watch()

    ticked(watch, times=1)
    assert not logging.getLogger("shop.anything").isEnabledFor(logging.INFO)
    assert logging.getLogger("shop.anything").isEnabledFor(logging.WARNING)
    assert logging.getLogger("audit.staff").isEnabledFor(logging.INFO)

    settings.LEVEL = "auto"
    ticked(watch, times=1)
    assert logging.getLogger("shop.anything").isEnabledFor(logging.INFO)


def test_each_change_is_an_audit_line_with_its_why(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Also at a log level that writes nothing else."""
    logging.getLogger("audit").propagate = True
    try:
        settings.LEVEL = "SHED"
        watch = level_watch.Watch()
        ticked(watch)
        settings.LEVEL = "auto"
        ticked(watch)
    finally:
        logging.getLogger("audit").propagate = False

    assert list(dict.fromkeys(record.getMessage() for record in caplog.records if record.name == "audit.service")) == [
        "level SHED after NORMAL: forced: LEVEL is set in the environment",
        "level NORMAL after SHED: as at the start",
    ]


def test_every_feature_is_in_the_table() -> None:
    """The module's docstring is what staff read, and what it says is so."""
    features = [value for value in vars(levels).values() if isinstance(value, levels.Feature)]
    rows = [line.split("|") for line in (levels.__doc__ or "").splitlines() if line.startswith("| ")][1:]

    assert {(name.strip(), until.strip()) for _, name, until, *_ in rows} == {
        (feature.name, feature.until.name) for feature in features
    }
