"""PostgreSQL went back in time: it is noticed, and Redis tells what was forgotten. Each order once, no unit twice."""

from collections.abc import Callable, Iterator
from io import StringIO

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from pytest_django import Settings

from inventory import _keys, effects, outbox, reconciliation, recovery, rereading, reservations, stock
from inventory._scripts import Script
from inventory.models import DeadEntry, Reservation, Stock
from inventory.outcomes import Outcome, Wish
from inventory.verification import findings
from shop import orders, tasks
from shop import verification as money
from shop.models import Offer, Order, Payment, Sale
from tests.crowd import at_once
from tests.people import a_crowd, pay, reservation_id

#: What changes while a sale is on, parents first.
TABLES = [
    *(f"inventory_{name}" for name in ("stock", "reservation", "buyerunits", "stockchange", "claim", "effect")),
    *("inventory_deadentry", "shop_order", "shop_order_earlier", "shop_payment", "shop_providerevent"),
]


class Backup:
    """All that PostgreSQL knows at one moment, as a standby has it that hears no more."""

    def take(self) -> None:
        self._each("CREATE TABLE backup_{0} AS TABLE {0}", TABLES)

    def restore(self) -> None:
        """PostgreSQL is what it was when it was taken; the foreign keys are looked at in the end."""
        with transaction.atomic():
            self._each("DELETE FROM {0}", reversed(TABLES))
            self._each("INSERT INTO {0} SELECT * FROM backup_{0}", TABLES)

    def drop(self) -> None:
        self._each("DROP TABLE IF EXISTS backup_{0}", TABLES)

    def _each(self, statement: str, tables: Iterator[str] | list[str]) -> None:
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(statement.format(table))


@pytest.fixture
def backup(transactional_db: None) -> Iterator[Backup]:
    backup = Backup()
    yield backup
    backup.drop()


def hold(offer: Offer, count: int) -> list[str]:
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(count)]
    assert {answer.outcome for answer in reservations.reserve(offer.pk, wishes)} == {Outcome.RESERVED}
    return [wish.reservation_id for wish in wishes]


def place(offer: Offer, count: int) -> list[str]:
    """Reservations that are recorded."""
    held = hold(offer, count)
    assert outbox.drain(offer.pk, orders.place) == count
    return held


def reread(offer: Offer) -> rereading.Reread:
    return rereading.reread(offer.pk, orders.place, orders.follow)


def all_findings(offer: Offer) -> list[str]:
    effects.apply_pending()
    return [finding.seen for finding in (*findings(offer.pk), *money.findings(offer.pk))]


def states(ids: list[str]) -> list[str]:
    found = dict(Reservation.objects.values_list("pk", "state"))
    return [found.get(pk, "unknown") for pk in ids]


def end(reservation: str, how: str) -> None:
    """Paid, cancelled or run out, and Redis has heard of it."""
    order = Order.objects.get(reservation=reservation)
    match how:
        case "paid":
            pay(order)
        case "released":
            orders.cancel(order)
        case "expired":
            Reservation.objects.filter(pk=reservation).update(expires_at="2020-01-01T00:00:00Z")
            assert reservations.expire_due(orders.expire) == 1
    effects.apply_pending()


def test_lost_commits_are_noticed_and_written_down_again(offer: Offer, backup: Backup) -> None:
    """One look of the watcher: every order is there once, with the number that its buyer knows, and selling goes on."""
    old = place(offer, 3)
    backup.take()
    lost = place(offer, 4)
    numbers = dict(Order.objects.values_list("reservation_id", "number"))
    backup.restore()
    assert states(old + lost) == ["held"] * 3 + ["unknown"] * 4

    tasks.watch()

    assert dict(Order.objects.values_list("reservation_id", "number")) == numbers
    assert states(old + lost) == ["held"] * 7
    assert all_findings(offer) == []
    assert reservations.look_up(offer.pk, lost[0]).order == numbers[lost[0]]
    assert not outbox.has_lost_commits(offer.pk)
    place(offer, 13)
    assert all_findings(offer) == []
    assert Stock.objects.get(pk=offer.pk).epoch == 1


def test_nothing_new_is_written_down_before_the_old(offer: Offer, backup: Backup) -> None:
    """A drain would move the high water over the hole, and nobody would see it: it waits, and loses nothing."""
    backup.take()
    lost = place(offer, 2)
    backup.restore()
    new = hold(offer, 2)

    with pytest.raises(outbox.LostCommits, match="reread"):
        outbox.drain(offer.pk, orders.place)
    assert states(new) == ["unknown"] * 2

    tasks.watch()
    tasks.drain()

    assert states(lost + new) == ["held"] * 4
    assert outbox.waiting_events([offer.pk]) == {offer.pk: 0}
    assert all_findings(offer) == []


@pytest.mark.parametrize("how", ["released", "expired"])
@pytest.mark.parametrize("recorded", ["before", "after"])
def test_a_unit_that_came_back_is_its_next_buyers(
    make_sale: Callable[..., Sale], backup: Backup, how: str, recorded: str
) -> None:
    """The end of the first hold is lost too, with or without the hold itself: the second buyer has the unit all the
    same."""
    offer = make_sale(quantity=1).offers.get()
    if recorded == "after":
        backup.take()
    [first] = place(offer, 1)
    if recorded == "before":
        backup.take()
    end(first, how)
    [second] = place(offer, 1)
    backup.restore()

    tasks.watch()

    assert states([first, second]) == [how, "held"]
    assert all_findings(offer) == []


@pytest.mark.parametrize("recorded", ["before", "after"])
def test_a_paid_order_is_still_paid(offer: Offer, backup: Backup, recorded: str) -> None:
    """Its units are sold, and `verify` asks for its payment until the provider tells of it again."""
    if recorded == "after":
        backup.take()
    [paid] = place(offer, 1)
    if recorded == "before":
        backup.take()
    end(paid, "paid")
    backup.restore()

    tasks.watch()

    order = Order.objects.get(reservation=paid)
    assert (states([paid]), order.state) == (["confirmed"], "paid")
    assert all_findings(offer) == [f"order {order.number} is paid, with 0 payments of its total"]
    pay(order)
    assert Payment.objects.get().state == Payment.State.SUCCEEDED
    assert all_findings(offer) == []


def test_restocks_and_losses_are_entered_again(offer: Offer, backup: Backup) -> None:
    """Redis remembers each change by its id: the ledger has the same lines, once."""
    backup.take()
    stock.change(offer.pk, 5, reason="found", by="staff")
    lost = place(offer, 22)
    stock.change(offer.pk, -2, reason="broken", by="staff")
    backup.restore()

    report = reread(offer)

    assert (report.written, report.changes) == (22, 2)
    assert states(lost) == ["held"] * 22
    assert Stock.objects.get(pk=offer.pk).quantity == 23
    assert all_findings(offer) == []


def test_again_it_changes_nothing(offer: Offer, backup: Backup) -> None:
    """Four at once, and one afterwards: each reservation, change and end is written down by one of them."""
    first = place(offer, 2)
    backup.take()
    end(first[0], "expired")
    stock.change(offer.pk, 1, reason="found", by="staff")
    place(offer, 6)
    backup.restore()

    reports = [*at_once(range(4), lambda _: reread(offer)), reread(offer)]

    assert [sum(report.written for report in reports), sum(report.changes for report in reports)] == [6, 1]
    assert sum(report.ended for report in reports) == 1
    assert Order.objects.count() == 8
    assert all_findings(offer) == []


def test_what_was_trimmed_is_counted_and_told(offer: Offer, backup: Backup, settings: Settings) -> None:
    """Its event is gone: the command says how much is missing, and reconciling writes it down from Redis's records."""
    settings.EVENTS_KEPT_SECONDS = 0
    backup.take()
    trimmed = place(offer, 2)
    assert outbox.trim_all() == 2
    kept = place(offer, 1)
    backup.restore()

    said = run("reread", offer.sale.slug)

    assert "1 events read again, 1 reservations" in said
    assert "MISSING: 2 reservations, 2 of 3 units ever held" in said
    assert states(trimmed + kept) == ["unknown", "unknown", "held"]
    reconciliation.repair(offer.pk, orders.place)
    assert "nothing is missing" in run("reread", offer.sale.slug)
    assert states(trimmed) == ["held"] * 2
    assert all_findings(offer) == []


def test_a_loss_is_noticed_behind_an_event_that_is_open(
    offer: Offer, backup: Backup, stock_redis: redis.Redis, settings: Settings
) -> None:
    """A dead worker keeps one event open in the middle: what was acknowledged before it is missed all the same."""
    backup.take()
    before = place(offer, 2)
    [open_one] = hold(offer, 1)
    stock_redis.xreadgroup(_keys.GROUP, "dead", {_keys.events(offer.pk): ">"})
    after = place(offer, 2)
    backup.restore()

    assert outbox.has_lost_commits(offer.pk)
    tasks.watch()

    assert states([*before, open_one, *after]) == ["held"] * 5
    settings.CLAIM_AFTER_SECONDS = 0
    assert outbox.drain(offer.pk, orders.place) == 1
    assert all_findings(offer) == []


def test_what_was_refused_is_no_loss(offer: Offer, stock_redis: redis.Redis) -> None:
    """The last events were acknowledged and nothing was held: PostgreSQL has forgotten nothing."""
    nobody = Wish(reservation_id(offer), 987_654_321)
    reservations.reserve(offer.pk, [nobody])
    assert outbox.drain(offer.pk, orders.place) == 1
    assert states([nobody.reservation_id]) == ["refused"]
    assert not outbox.has_lost_commits(offer.pk)

    stock_redis.xadd(_keys.events(offer.pk), {"type": "nonsense"})
    assert outbox.drain(offer.pk, orders.place) == 1
    assert DeadEntry.objects.count() == 1
    assert not outbox.has_lost_commits(offer.pk)


def test_a_refusal_that_was_lost_stays_one(offer: Offer, backup: Backup) -> None:
    """Its buyer was told so, and the unit is on sale again."""
    backup.take()
    nobody = Wish(reservation_id(offer), 987_654_321)
    reservations.reserve(offer.pk, [nobody])
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()
    backup.restore()

    tasks.watch()

    assert states([nobody.reservation_id]) == ["refused"]
    assert not outbox.has_lost_commits(offer.pk)
    assert all_findings(offer) == []


def test_a_recovery_that_postgresql_forgot_is_not_done_again(
    offer: Offer, backup: Backup, stock_redis: redis.Redis, settings: Settings
) -> None:
    """Redis is of an epoch that PostgreSQL does not know any more. It has lost nothing, and keeps what it has."""
    settings.CLAIM_WINDOW_SECONDS = 0
    old = place(offer, 2)
    backup.take()
    stock_redis.flushall()
    recovery.watch(orders.place)
    lost = place(offer, 3)
    backup.restore()

    assert tasks.watch() == []

    assert states(old + lost) == ["held"] * 5
    assert Stock.objects.get(pk=offer.pk).epoch == 3
    assert stock_redis.xlen(_keys.events(offer.pk)) == 3  # filling it anew would have emptied the stream
    assert all_findings(offer) == []


def test_a_rebuild_does_not_believe_a_postgresql_that_forgot(offer: Offer, backup: Backup) -> None:
    """It would drop from Redis what only Redis knows: it says what to do first, and changes nothing."""
    backup.take()
    lost = place(offer, 2)
    backup.restore()

    with pytest.raises(CommandError, match="reread"):
        run("rebuild", offer.sale.slug)
    run("reread", offer.sale.slug)
    run("rebuild", offer.sale.slug)

    assert states(lost) == ["held"] * 2
    assert all_findings(offer) == []


def test_without_a_stream_there_is_nothing_to_read(offer: Offer, stock_redis: redis.Redis) -> None:
    """One clear line; a lost Redis is for the recovery."""
    stock_redis.flushall()

    with pytest.raises(CommandError, match="nothing to read again"):
        run("reread", offer.sale.slug)
    assert not outbox.has_lost_commits(offer.pk)


def test_how_far_the_stream_is_acknowledged(offer: Offer, stock_redis: redis.Redis) -> None:
    """acknowledged.lua: nothing without a group or before the first; then the last one before whatever is open."""
    script, keys = Script("acknowledged.lua"), [_keys.events(offer.pk)]

    def acknowledged(stream: str = keys[0]) -> str:
        event_id, sold = script([_keys.units(offer.pk), stream], [])
        assert sold == 0
        return event_id

    assert acknowledged(f"{{o:{offer.pk}}}:none") == "0-0"
    assert acknowledged() == "0-0"
    hold(offer, 3)
    assert acknowledged() == "0-0"

    first, second, third = [event_id for event_id, _ in stock_redis.xrange(keys[0])]
    stock_redis.xreadgroup(_keys.GROUP, "a", {keys[0]: ">"})
    assert acknowledged() == "0-0"
    stock_redis.xack(keys[0], _keys.GROUP, first, third)
    assert acknowledged() == first
    stock_redis.xack(keys[0], _keys.GROUP, second)
    assert acknowledged() == third
    stock_redis.xtrim(keys[0], maxlen=0)
    assert acknowledged() == third
    stock_redis.xgroup_destroy(keys[0], _keys.GROUP)
    assert acknowledged() == "0-0"


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()
