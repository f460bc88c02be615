"""What staff press in the console: asked before, done once, written down; and what is refused changes nothing."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from inventory import outbox, reservations, stock
from inventory.models import Reservation, Stock, StockChange
from inventory.outcomes import Outcome, Wish
from shop import orders, second_look
from shop.act_table import ACTS
from shop.models import Offer, Sale, SaleEvent
from tests.crowd import at_once
from tests.people import a_crowd, reservation_id
from tests.shop import clicks

pytestmark = pytest.mark.django_db(transaction=True)


#: As the page shows it: what a test client keeps of its context mixes up those who press at the same moment.
_SAID = re.compile(r'<p role="status" class="said \w+">(.*?)</p>')


def somebody(name: str) -> Client:
    """A browser in which a superuser of that name is signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    return client


@pytest.fixture
def staff() -> Client:
    return somebody("ann")


def url(sale: Sale, act: str) -> str:
    """Of the sale, or of its only offer."""
    middle = f"offers/{sale.offers.get().pk}/" if ACTS[act].of_offer else ""
    return f"/admin/console/{sale.slug}/{middle}{act}/"


def form(client: Client, sale: Sale, act: str) -> dict[str, Any]:
    """What the page that asks would send if nobody typed anything."""
    answer = client.get(url(sale, act))
    assert answer.status_code == 200
    asks = answer.context["form"]
    return {name: asks.get_initial_for_field(field, name) or "" for name, field in asks.fields.items()}


def press(client: Client, sale: Sale, act: str, **typed: Any) -> list[str]:
    """Open the page that asks, fill it in, press; answers what the console then says."""
    return send(client, sale, act, form(client, sale, act) | typed)


def send(client: Client, sale: Sale, act: str, fields: dict[str, Any]) -> list[str]:
    answer = client.post(url(sale, act), fields, follow=True)
    assert answer.status_code == 200
    assert answer.redirect_chain, "the form was shown again"
    return [html.unescape(text) for text in _SAID.findall(answer.content.decode())]


def written() -> list[tuple[str, str]]:
    return list(SaleEvent.objects.order_by("pk").values_list("act", "by"))


def levels(sale: Sale) -> stock.Levels:
    found = stock.levels([sale.offers.get().pk])[sale.offers.get().pk]
    assert found is not None
    return found


# --- Each asks first -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
def test_a_page_asks_and_changes_nothing(staff: Client, sale: Sale, stock_redis: redis.Redis, act: str) -> None:
    """It says what will happen, to which sale."""
    before = clicks.everything(stock_redis)

    page = staff.get(url(sale, act)).content.decode()

    assert sale.title in page
    assert clicks.everything(stock_redis) == before
    assert written() == []


@pytest.mark.parametrize("act", ACTS)
def test_who_may_not_is_refused(sale: Sale, stock_redis: redis.Redis, act: str) -> None:
    """A stranger is sent to sign in; staff who may only look are forbidden, by GET and by POST."""
    looker, client = User.objects.create(username="looker", is_staff=True), Client()
    looker.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(looker)
    before = clicks.everything(stock_redis)

    assert Client().post(url(sale, act)).status_code == 302
    assert client.get(url(sale, act)).status_code == client.post(url(sale, act)).status_code == 403

    assert clicks.everything(stock_redis) == before
    assert written() == []


def test_another_site_presses_nothing(sale: Sale) -> None:
    """A form without the token that we put into it is refused."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ann"))

    assert client.post(url(sale, "pause")).status_code == 403
    assert Sale.objects.get().state == "scheduled"


def test_what_there_is_not_is_not_found(staff: Client, make_sale: Callable[..., Sale]) -> None:
    """An act nobody knows, an offer of another sale, an act of offers without one, one of sales with one."""
    sale, other = make_sale(), make_sale()
    offer, elsewhere = sale.offers.get().pk, other.offers.get().pk

    for path in (
        f"{sale.slug}/explode/",
        f"{sale.slug}/restock/",
        f"{sale.slug}/offers/{elsewhere}/restock/",
        f"{sale.slug}/offers/{offer}/pause/",
        f"{sale.slug}/offers/{10**30}/restock/",
        "nowhere/pause/",
        "nowhere/",
    ):
        assert staff.get(f"/admin/console/{path}").status_code in (400, 404), path


# --- The life of a sale ----------------------------------------------------------------------------------------------


def test_a_sale_is_led_through_its_life(staff: Client, make_sale: Callable[..., Sale]) -> None:
    """Opened before its time, paused, resumed, closed: each in both stores, and a line of the record."""
    sale = make_sale(opens_in=timedelta(hours=2))

    for act, state, on_the_shelf in [
        ("open", "scheduled", "open"),
        ("pause", "paused", "paused"),
        ("resume", "scheduled", "open"),
        ("close", "closed", "closed"),
    ]:
        [said] = press(staff, sale, act)
        sale.refresh_from_db()
        assert said.startswith(f"{sale} is {state} (")
        assert (sale.state, levels(sale).state) == (state, on_the_shelf)

    assert sale.opens_at <= timezone.now()
    assert levels(sale).opens_at_ms == int(sale.opens_at.timestamp() * 1000)
    assert written() == [("open_now", "ann"), ("pause", "ann"), ("resume", "ann"), ("close", "ann")]


def test_a_draft_is_scheduled(staff: Client, make_sale: Callable[..., Sale]) -> None:
    """From its console, which shows no other button then."""
    sale = make_sale()
    Sale.objects.filter(pk=sale.pk).update(state="draft")

    page = staff.get(f"/admin/console/{sale.slug}/")
    assert [name for name, _ in page.context["acts"]] == ["schedule"]

    press(staff, sale, "schedule")
    assert Sale.objects.get().state == "scheduled"


def test_an_open_sale_is_not_opened_again(staff: Client, sale: Sale) -> None:
    """Its time stays."""
    opened = sale.opens_at

    [said] = press(staff, sale, "open")

    assert "there is nothing to open" in said
    assert Sale.objects.get().opens_at == opened
    assert written() == []


@pytest.mark.parametrize("act", ["pause", "close"])
def test_of_two_who_press_at_once_one_does_it(sale: Sale, act: str) -> None:
    """One effect and one line; the other hears who was first."""
    people = [somebody("ann"), somebody("bob")]
    forms = [form(each, sale, act) for each in people]

    said = at_once(range(2), lambda n: send(people[n], sale, act, forms[n])[0])

    [(_, first)] = written()
    assert sorted("already" in each for each in said) == [False, True]
    [late] = [each for each in said if "already" in each]
    assert f"{first} was first, at " in late


def test_redis_away_leaves_all_as_it_was(staff: Client, sale: Sale, stock_redis_away: Callable[[], None]) -> None:
    """It is said, nothing is written down, and the same press works later."""
    fields = form(staff, sale, "pause")
    stock_redis_away()

    [said] = send(staff, sale, "pause", fields)

    assert said.startswith("Stock Redis did not do it, nothing was changed: ")
    assert Sale.objects.get().state == "scheduled"
    assert written() == []


# --- Units -----------------------------------------------------------------------------------------------------------


def quantities(sale: Sale) -> tuple[int, int]:
    """In PostgreSQL and in Redis."""
    return Stock.objects.get().quantity, levels(sale).quantity


def test_units_are_added(staff: Client, sale: Sale) -> None:
    """To what there is, in both stores, with a line in the ledger and one in the record."""
    [said] = press(staff, sale, "restock", units=5)

    assert said.startswith("+5 units of ")
    assert quantities(sale) == (25, 25)
    assert list(StockChange.objects.filter(reason="restock").values_list("moved", "by")) == [(5, "ann")]
    assert SaleEvent.objects.get().detail == "+5"


@pytest.mark.parametrize("units", ["0", "-5", str(10**12), "1000001", "", "1.5", "x", "\0", "1e3", "٣" * 20])
def test_units_that_make_no_sense_are_refused(staff: Client, sale: Sale, units: str) -> None:
    """With the reason beside the field, and nothing has changed."""
    answer = staff.post(url(sale, "restock"), form(staff, sale, "restock") | {"units": units})

    assert answer.status_code == 400
    assert answer.context["form"].errors["units"]
    assert quantities(sale) == (20, 20)
    assert written() == []


def test_two_forms_that_saw_the_same_are_one_restock(sale: Sale) -> None:
    """Ann and Bob have both seen that it runs low: one of them adds, the other hears of it and looks again."""
    ann, bob = somebody("ann"), somebody("bob")
    forms = [form(ann, sale, "restock") | {"units": 5}, form(bob, sale, "restock") | {"units": 7}]

    said = at_once(range(2), lambda n: send((ann, bob)[n], sale, "restock", forms[n])[0])

    added = quantities(sale)[0] - 20
    assert quantities(sale) == (20 + added, 20 + added)
    assert added in (5, 7)
    assert sorted(each.startswith("Nothing was added") for each in said) == [False, True]
    assert len(written()) == 1

    press(bob, sale, "restock", units=2)
    assert quantities(sale) == (22 + added, 22 + added)


def test_a_button_that_is_pressed_twice_adds_once(staff: Client, sale: Sale) -> None:
    """An impatient finger, or a browser that sends again."""
    fields = form(staff, sale, "restock") | {"units": 5}

    at_once(range(4), lambda _: send(staff, sale, "restock", fields))

    assert quantities(sale) == (25, 25)
    assert len(written()) == 1


def test_a_restock_without_redis_waits_and_comes_once(
    staff: Client, sale: Sale, stock_redis_away: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has the units; Redis hears of them when it is back, and pressing again adds nothing."""
    fields = form(staff, sale, "restock") | {"units": 5}
    with monkeypatch.context() as away:
        away.setattr(stock, "_change", _nobody_answers)
        [said] = send(staff, sale, "restock", fields)
    assert "PostgreSQL has the units" in said
    assert quantities(sale) == (25, 20)

    assert stock.finish_changes() == 1
    send(staff, sale, "restock", fields)

    assert quantities(sale) == (25, 25)
    assert len(written()) == 1


def _nobody_answers(*_: Any) -> Any:
    raise stock.InventoryUnavailable("away")


def test_a_sale_that_is_over_gets_no_units(staff: Client, sale: Sale) -> None:
    """It says why."""
    fields = form(staff, sale, "restock") | {"units": 5}
    press(staff, sale, "close")

    [said] = send(staff, sale, "restock", fields)

    assert "scheduled, open or paused" in said
    assert quantities(sale) == (20, 20)


def test_the_limit_is_changed_from_the_one_that_was_seen(sale: Sale) -> None:
    """Ann raises it; Bob, whose form showed the old one, hears that it is another meanwhile."""
    ann, bob = somebody("ann"), somebody("bob")
    late = form(bob, sale, "limit") | {"unit_limit": 3}

    press(ann, sale, "limit", unit_limit=2)
    [said] = send(bob, sale, "limit", late)

    assert said.startswith("Nothing was changed: the limit is 2 meanwhile")
    assert Stock.objects.get().unit_limit == 2
    assert written() == [("limit", "ann")]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", str(10**12), "", "x"])
def test_a_limit_that_makes_no_sense_is_refused(staff: Client, sale: Sale, limit: str) -> None:
    answer = staff.post(url(sale, "limit"), form(staff, sale, "limit") | {"unit_limit": limit})

    assert answer.status_code == 400
    assert Stock.objects.get().unit_limit == 1


# --- Holds and drift -------------------------------------------------------------------------------------------------


def hold(offer: Offer) -> Reservation:
    [buyer] = a_crowd(1)
    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
    assert answer.outcome == Outcome.RESERVED
    outbox.drain(offer.pk, orders.place)
    return Reservation.objects.get(buyer_id=buyer)


def test_holds_that_have_run_out_are_released(staff: Client, sale: Sale) -> None:
    """Once: pressed again, there is none."""
    kept, over = hold(sale.offers.get()), hold(sale.offers.get())
    Reservation.objects.filter(pk=over.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    assert press(staff, sale, "release") == ["1 holds had run out, and are on sale again."]
    assert press(staff, sale, "release") == ["0 holds had run out, and are on sale again."]

    assert set(Reservation.objects.values_list("pk", "state")) == {(kept.pk, "held"), (over.pk, "expired")}


def drift(stock_redis: redis.Redis, offer: Offer) -> None:
    """A unit that Redis has lost from what is on sale."""
    stock_redis.hincrby(f"{{o:{offer.pk}}}:units", "available", -1)


def test_a_dry_run_shows_what_a_second_look_repairs(
    staff: Client, sale: Sale, stock_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once it is too soon, because it adds to what is on sale; half a minute later it is done."""
    drift(stock_redis, sale.offers.get())
    asked = staff.get(url(sale, "reconcile"))
    assert "19 available" in asked.content.decode()
    fields = form(staff, sale, "reconcile")

    [said] = send(staff, sale, "reconcile", fields)
    assert "press again in" in said
    assert levels(sale).available == 19

    monkeypatch.setattr(second_look, "AUDITS_APART_SECONDS", 0)
    [said] = send(staff, sale, "reconcile", fields)
    assert "counters corrected" in said
    assert levels(sale).available == 20
    assert written() == [("reconcile", "ann")] * 2


@pytest.mark.parametrize("looked", ["", "forged", "x:y:z"])
def test_a_look_that_nobody_took_adds_nothing(
    staff: Client, sale: Sale, stock_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, looked: str
) -> None:
    """A form without a dry run of ours is a first look at most."""
    drift(stock_redis, sale.offers.get())
    monkeypatch.setattr(second_look, "AUDITS_APART_SECONDS", 0)

    [said] = send(staff, sale, "reconcile", {"looked": looked})

    assert "the dry run saw something else" in said
    assert levels(sale).available == 19
