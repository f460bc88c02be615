"""Commands: what they do, and the one clear line when they cannot."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from inventory import _connection, outbox, reservations, stock
from inventory.models import Stock
from inventory.outcomes import Wish
from shop import buyers, demo, orders
from shop.models import Offer, Order, Product, Sale
from tests.people import a_crowd, reservation_id

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **options: object) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def refused(*arguments: str) -> str:
    """The line of a command that says no; its exit status is 2."""
    with pytest.raises(CommandError) as error:
        run(*arguments)
    assert error.value.returncode == 2
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.django_db(transaction=True)
def test_demo_fills_an_empty_shop_once() -> None:
    """Products, people and a sale in every state; a second run changes nothing."""
    run("demo")
    before = (Product.objects.count(), User.objects.count(), Sale.objects.count())
    run("demo")

    assert (Product.objects.count(), User.objects.count(), Sale.objects.count()) == before == (6, 21, 4)
    assert set(Sale.objects.values_list("state", flat=True)) == {"draft", "scheduled", "paused", "closed"}
    assert Client().login(username="staff", password="staff")
    assert Client().login(username="shopper20", password="flash-sale")


@pytest.mark.django_db(transaction=True)
def test_demo_makes_one_sale_to_order() -> None:
    """One offer with that quantity, limit and hold, on the shelf."""
    run("demo", "--sale", "mine", "--quantity", "7", "--limit", "3", "--hold", "9", "--opens-in", "100")

    [offer] = Sale.objects.get(slug="mine").offers.all()
    row, levels = offer.stock, stock.levels([offer.pk])[offer.pk]
    assert (row.quantity, row.unit_limit, row.hold_seconds) == (7, 3, 9)
    assert levels is not None
    assert (levels.available, levels.state) == (7, "open")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--quantity", "-5"], "--quantity must be from 1"),
        (["--quantity", "0"], "--quantity must be from 1"),
        (["--quantity", "99999999999"], "--quantity must be from 1"),
        (["--limit", "0"], "--limit must be from 1"),
        (["--hold", "0"], "--hold must be from 1"),
        (["--opens-in", "-1"], "--opens-in must be from 0"),
        (["--quantity", "many"], "invalid int value"),
    ],
)
@pytest.mark.django_db
def test_demo_refuses_numbers_that_make_no_sense(arguments: list[str], reason: str) -> None:
    """One line that names the option; no sale is made."""
    with pytest.raises(CommandError, match=reason):
        run("demo", "--sale", "mine", *arguments)
    assert not Sale.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_demo_refuses_an_address_that_is_none_or_taken(sale: Sale) -> None:
    """A slug is letters, digits, - and _, at most 60, and new."""
    for slug in ("a b", "../x", "", "x" * 61, sale.slug):
        if slug:
            assert slug[:20] in refused("demo", "--sale", slug)
    assert Sale.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_rolling_keeps_one_open_and_one_to_come() -> None:
    """Called every second, it makes two sales and then waits; an ended one is closed and replaced."""
    run("demo")
    demo.roll()
    demo.roll()
    rolling = Sale.objects.filter(slug__startswith="flash-").order_by("opens_at")
    assert rolling.count() == 2

    Sale.objects.filter(pk=rolling[0].pk).update(opens_at="2020-01-01T00:00:00Z", closes_at="2020-01-02T00:00:00Z")
    demo.roll()

    assert rolling.count() == 3
    assert rolling[0].state == Sale.State.CLOSED


@pytest.mark.django_db(transaction=True)
def test_shoppers_are_people_with_cookies(tmp_path: Path) -> None:
    """N lines, each another shopper's cookie, for nobody else to read; a second run makes no new people."""
    out = tmp_path / "cookies"
    run("shoppers", "5", "--out", str(out))
    run("shoppers", "5", "--out", str(out))

    found = [buyers.read(line) for line in out.read_text().splitlines()]
    assert len({buyer.id for buyer in found if buyer}) == 5
    assert User.objects.count() == 5
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.django_db
def test_shoppers_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    """Too few, too many, or a file that cannot be written."""
    assert "N must be from 1" in refused("shoppers", "0", "--out", str(tmp_path / "f"))
    assert "N must be from 1" in refused("shoppers", "1000001", "--out", str(tmp_path / "f"))
    assert "cannot be written" in refused("shoppers", "1", "--out", str(tmp_path / "no/such/folder"))


def test_a_sale_is_paused_resumed_and_closed(sale: Sale, offer: Offer) -> None:
    """Each verb moves PostgreSQL and Redis together, and says so."""
    for verb, row, shelf in (
        ("pause", "paused", "paused"),
        ("pause", "paused", "paused"),
        ("resume", "scheduled", "open"),
        ("preheat", "scheduled", "open"),
        ("close", "closed", "closed"),
    ):
        assert run(verb, sale.slug).endswith(f"{sale.slug} is {row}\n")
        assert stock.levels([offer.pk])[offer.pk].state == shelf
    assert "closed" in refused("resume", sale.slug)


@pytest.mark.parametrize("verb", ["preheat", "pause", "resume", "close", "verify", "reconcile", "rebuild"])
def test_an_unknown_sale_is_said_in_one_line(verb: str, sale: Sale) -> None:
    """The line names what was asked for and what there is."""
    line = refused(verb, "nowhere")

    assert "nowhere" in line
    assert sale.slug in line


def test_drain_records_without_a_broker(offer: Offer) -> None:
    """What waits in the stream becomes orders."""
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in a_crowd(3)])

    assert run("drain") == "3 events recorded\n"
    assert Order.objects.count() == 3


def test_verify_says_kept_or_broken(sale: Sale, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1 names the broken promise, for people and for programs."""
    monkeypatch.setattr("shop.management.commands.verify.SETTLE_SECONDS", 0)
    assert "BROKEN" not in run("verify", sale.slug)
    Stock.objects.filter(pk=offer.pk).update(held=1)

    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify", "--json", stdout=out)

    assert ended.value.code == 1
    told = json.loads(out.getvalue())
    assert told["kept"] is False
    assert told["broken"][0]["promise"] == 1


def test_reconcile_shows_and_repairs(sale: Sale, offer: Offer) -> None:
    """Events that wait show as drift; --apply records them."""
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in a_crowd(2)])

    assert "still being written down" in refused("reconcile", sale.slug)
    assert "2 events recorded" in run("reconcile", sale.slug, "--apply")
    assert "no drift: 18 available, 2 held, 0 sold" in run("reconcile", sale.slug)


def test_rebuild_fills_redis_again(sale: Sale, offer: Offer, stock_redis: redis.Redis) -> None:
    """After a total loss the sale is back with what PostgreSQL knows."""
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in a_crowd(2)])
    outbox.drain(offer.pk, orders.place)
    stock_redis.flushall()
    assert "rebuild" in refused("preheat", sale.slug)

    run("rebuild", sale.slug)

    assert stock.levels([offer.pk])[offer.pk].available == 18
    assert "BROKEN" not in run("verify", sale.slug)


@pytest.fixture
def redis_away(settings: object) -> object:
    settings.STOCK_REDIS_URL = "unix:///nowhere/redis.sock"  # type: ignore[attr-defined]
    _connection.stock_redis.cache_clear()
    yield
    _connection.stock_redis.cache_clear()


@pytest.mark.parametrize("verb", ["preheat", "pause", "verify", "reconcile", "rebuild"])
def test_a_redis_that_is_away_is_said_in_one_line(sale: Sale, verb: str, redis_away: None) -> None:
    """Nothing is changed, and nobody reads a traceback."""
    assert "Redis" in refused(verb, sale.slug)
    assert Sale.objects.get().state == "scheduled"


@pytest.mark.parametrize(
    ("variables", "arguments", "line"),
    [
        ({"DATABASE_URL": "postgresql://shop@/shop?host=/nowhere"}, ["verify"], "PostgreSQL cannot be asked"),
        ({"DATABASE_URL": "nonsense"}, ["verify"], "DATABASE_URL: "),
        ({"PROFILE": "toy"}, ["verify"], "PROFILE: must be one of"),
        ({"TICKET_SECONDS": "soon"}, ["verify"], "TICKET_SECONDS: must be a whole number"),
        ({"TICKET_KEYS": "short"}, ["verify"], "TICKET_KEYS: a key is weak"),
        ({"PORT": "eighty"}, ["up"], "PORT"),
        ({"STATE": "/proc/nowhere"}, ["up"], "/proc/nowhere"),
    ],
)
def test_a_wrong_environment_is_said_in_one_line(variables: dict[str, str], arguments: list[str], line: str) -> None:
    """On stderr, with exit status 2, before anything is started."""
    ran = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 2
    assert line in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""


def test_every_setting_of_the_database_fits_the_role() -> None:
    """A worker keeps one checked connection and no pool; timeouts hold everywhere."""
    assert connection.settings_dict["CONN_HEALTH_CHECKS"] is True
    assert "pool" not in connection.settings_dict["OPTIONS"]
    assert "statement_timeout=5000" in connection.settings_dict["OPTIONS"]["options"]
