"""The console: true figures, the same look for all who watch, and what is known when something is away."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.core.cache import caches
from django.test import Client

from resilience import degradation
from resilience.degradation import Forced, Keeper, Level, Signs, Situation
from shop import console, console_pass, service_figures
from shop.models import Sale
from tests.crowd import at_once, eventually
from tests.shop import clicks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that nobody has asked for a console."""
    monkeypatch.setattr(console, "_seen", {})


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page(client: Client, sale: Sale) -> Any:
    return client.get(f"/admin/console/{sale.slug}/")


def figures(client: Client, sale: Sale, since: Any = 0) -> Any:
    return client.get(f"/admin/console/{sale.slug}/figures", {"since": since})


def told(client: Client, sale: Sale) -> dict[str, Any]:
    answer = figures(client, sale)
    assert answer.status_code == 200
    return dict(answer.json())


# --- What it says ----------------------------------------------------------------------------------------------------


def test_it_tells_of_a_sale_what_happened(staff: Client, sale: Sale, make_shopper: Callable[[], Client]) -> None:
    """Somebody looks, somebody buys: the funnel, and the units as both stores have them."""
    looker, buyer = make_shopper(), make_shopper()
    looker.get(f"/sales/{sale.slug}/mine")
    clicks.order(buyer, sale)
    [offer] = sale.offers.all()

    now = told(staff, sale)

    assert {step: now["funnel"][step] for step in ("view", "ticket", "attempt", "reserved", "placed")} == dict.fromkeys(
        ("view", "ticket", "attempt", "reserved", "placed"), 1
    )
    assert now["phase"] == "open"
    here, there = now["redis"]["value"]["offers"][str(offer.pk)], now["record"]["value"]["offers"][str(offer.pk)]
    assert (here["quantity"], here["available"], here["held"], here["sold"]) == (20, 19, 1, 0)
    assert (there["quantity"], there["held"], there["sold"], there["limit"]) == (20, 1, 0, 1)
    assert now["sale_points"][-1][1:] == [19, 1, 0]
    assert now["redis"]["value"]["waiting"] == 0
    assert {"PostgreSQL", "stock Redis", "cache Redis"} <= now["breakers"].keys()


def test_it_tells_the_level_and_why(staff: Client, sale: Sale) -> None:
    """Forced, with the reason that was given for it."""
    try:
        Keeper().tick(Signs(), 0.0, Forced(Level.SHED, "a drill"))
        now = told(staff, sale)
    finally:
        degradation.current.situation = Situation()
        Keeper()  # says so in the numbers

    assert (now["level"], now["level_reason"]) == ("SHED", "a drill")


@pytest.mark.parametrize("since", ["", "x", "-1", "1.5", "9" * 40, "٣"])
def test_a_senseless_moment_is_the_beginning(staff: Client, sale: Sale, since: str) -> None:
    """Typed by hand, it is no error."""
    assert figures(staff, sale, since).json()["sale_points"]


def test_it_tells_only_what_is_new(staff: Client, sale: Sale) -> None:
    """A page that has been told of all points hears of none of them again."""
    last = told(staff, sale)["sale_points"][-1][0]

    assert figures(staff, sale, last).json()["sale_points"] == []


def test_a_name_is_shown_as_it_is(staff: Client, sale: Sale) -> None:
    """Markup is text, marks of direction and letters of four bytes are kept."""
    Sale.objects.filter(pk=sale.pk).update(title="<b>\u202eWinter 𝒳</b>")

    assert "&lt;b&gt;\u202eWinter 𝒳&lt;/b&gt;" in page(staff, sale).content.decode()
    assert told(staff, sale)["record"]["value"]["sale"]["title"] == "<b>\u202eWinter 𝒳</b>"


# --- What it costs ---------------------------------------------------------------------------------------------------


def asked(stock_redis: redis.Redis) -> int:
    """Looks at counters of an offer so far; of nobody else than consoles, while no shopper is there."""
    calls: Any = stock_redis.info("commandstats")
    return int(calls.get("cmdstat_hgetall", {}).get("calls", 0))


def test_ten_consoles_cost_as_much_as_one(staff: Client, sale: Sale, stock_redis: redis.Redis) -> None:
    """They share one look a second: three hundred polls ask stock Redis as often as that, and PostgreSQL for nothing
    of their own."""
    page(staff, sale)
    watching = [Client() for _ in range(10)]
    for each in watching:
        each.cookies = staff.cookies
    before, began = asked(stock_redis), time.monotonic()

    at_once(watching, lambda each: [told(each, sale) for _ in range(30)])

    looks = (time.monotonic() - began) / console.FRESH_SECONDS + 1
    assert asked(stock_redis) - before <= looks + 1


def test_a_poll_needs_no_statement(staff: Client, sale: Sale, django_assert_num_queries: Callable[[int], Any]) -> None:
    """Neither for the figures, which threads of the side load, nor to know who asks."""
    page(staff, sale)
    told(staff, sale)

    with django_assert_num_queries(0):
        for _ in range(5):
            told(staff, sale)


# --- Who may look ----------------------------------------------------------------------------------------------------


def test_strangers_see_nothing(client: Client, sale: Sale, shopper: Client) -> None:
    """Nor do shoppers, nor staff who may not see sales; a pass of somebody's own making is none."""
    clerk = Client()
    clerk.force_login(User.objects.create(username="clerk", is_staff=True))
    forger = Client()
    forger.cookies[console_pass.COOKIE] = signing.dumps(1, salt="another")

    for who in (client, shopper, clerk, forger):
        assert figures(who, sale).status_code == 401
        assert page(who, sale).status_code == 302
        assert who.get("/admin/console/").status_code == 302


def test_who_may_see_sales_may_watch_them(sale: Sale) -> None:
    """And finds no button that is not theirs."""
    looker, client = User.objects.create(username="looker", is_staff=True), Client()
    looker.user_permissions.set(Permission.objects.filter(codename="view_sale"))
    client.force_login(looker)

    assert sale.title in client.get("/admin/console/").content.decode()
    assert 'class="acts"' not in page(client, sale).content.decode()
    assert told(client, sale)["phase"] == "open"


def test_a_pass_ends_soon_after_its_holder_is_dismissed(
    staff: Client, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is believed for a minute; then PostgreSQL is asked."""
    page(staff, sale)
    User.objects.update(is_active=False)
    assert figures(staff, sale).status_code == 200

    monkeypatch.setattr(console_pass, "BELIEVED_SECONDS", 0)
    assert figures(staff, sale).status_code == 401


# --- Something is away -----------------------------------------------------------------------------------------------


def test_without_redis_it_shows_what_was_and_since_when(
    staff: Client, sale: Sale, stock_redis_away: Callable[[], None]
) -> None:
    """The counters of before, with their moment; the sale reads as paused, and PostgreSQL's part goes on."""
    before = told(staff, sale)
    stock_redis_away()

    now = eventually(lambda: (now := told(staff, sale))["redis"]["away"] and now)

    assert now["redis"]["value"] == before["redis"]["value"]
    assert now["redis"]["at_ms"] < now["record"]["at_ms"]
    assert (now["phase"], now["record"]["away"]) == ("paused", False)
    assert now["sale_points"][-1][1:] == [None, None, None]


def test_without_postgresql_an_open_console_goes_on(
    staff: Client, sale: Sale, database_away: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pass counts, also when it would be time to ask; Redis's part goes on, and the page itself opens again."""
    page(staff, sale)
    before = told(staff, sale)
    database_away()
    monkeypatch.setattr(console_pass, "BELIEVED_SECONDS", 0)

    now = eventually(lambda: (now := told(staff, sale))["record"]["away"] and now)

    assert now["record"]["value"] == before["record"]["value"]
    assert (now["phase"], now["redis"]["away"]) == ("open", False)
    assert sale.title in page(staff, sale).content.decode()


def test_without_postgresql_and_pass_it_says_back_soon(
    staff: Client, sale: Sale, database_away: Callable[..., None]
) -> None:
    """Nobody can say who asks."""
    database_away()

    assert figures(staff, sale).status_code == 503
    assert page(staff, sale).status_code == 503


def test_without_caches_each_process_looks_for_itself(staff: Client, sale: Sale, frozen: Callable[[str], Any]) -> None:
    """Cache Redis hangs, and the figures come."""
    with frozen("redis-cache"):
        caches["default"].stack.forget_all()  # type: ignore[attr-defined]
        assert told(staff, sale)["phase"] == "open"


# --- Figures from counters -------------------------------------------------------------------------------------------


def sums(**answers: float) -> dict[str, Any]:
    buckets = {bound.replace("_", "."): number for bound, number in answers.items()}
    return {"answers": {"all": buckets}, "refusals": {}, "reads": {}, "gauges": {}}


def test_rates_and_percentiles_are_of_the_time_between_two_looks() -> None:
    """A hundred answers in two seconds, ninety of them within 100 ms, the rest within 200."""
    before = sums(**{"0.1": 50, "0.2": 50, "+Inf": 50})
    now = sums(**{"0.1": 140, "0.2": 150, "+Inf": 150})

    lane = service_figures.between(before, now, 2.0)["lanes"]["all"]

    assert lane == {"rate": 50.0, "p95_ms": pytest.approx(150.0)}


def test_nobody_asked() -> None:
    """There is no percentile of nothing, and no share of no reads."""
    figures = service_figures.between(None, sums(**{"0.1": 5, "+Inf": 5}), 1.0)

    assert figures["lanes"]["all"] == {"rate": 0.0, "p95_ms": None}
    assert figures["tiers"] == {}


def test_counters_that_began_anew_give_no_negative_rate() -> None:
    """All processes were started again, and their folder emptied."""
    before, now = sums(**{"0.1": 50, "+Inf": 50}), sums(**{"0.1": 3, "+Inf": 3})

    assert service_figures.between(before, now, 1.0)["lanes"]["all"]["rate"] == 0.0


def test_what_is_over_the_last_bound_is_told_as_that() -> None:
    """Ten answers of which nobody knows how long they took."""
    now = sums(**{"2.5": 0, "+Inf": 10})
    before = sums(**{"2.5": 0, "+Inf": 0})

    assert service_figures.between(before, now, 1.0)["lanes"]["all"]["p95_ms"] == 2_500
