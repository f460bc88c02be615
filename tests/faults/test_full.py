"""Memory and disks are full: what cannot be kept is refused whole, what was promised is kept, and it sells on after."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis
from django.db import connection, transaction
from django.db.utils import InternalError, OperationalError

from inventory import effects, outbox, reservations, stock
from inventory.models import Effect
from inventory.outcomes import InventoryFull, InventoryUnavailable, Outcome, Wish
from inventory.verification import findings
from shop import orders
from shop.local.accounts import service_account
from shop.models import Offer, Order, Sale
from tests.conftest import Shopper
from tests.crowd import eventually
from tests.full_disk import needs_file_limits, no_file_beyond
from tests.people import a_crowd, reservation_id
from tests.private_redis import PrivateRedis
from tests.shop import clicks

MEBIBYTE = 1 << 20
#: Bytes of a file of PostgreSQL's log of changes. A limit below would stop that log, and not only tables.
LOG_FILE_BYTES = 16 * MEBIBYTE
#: Per cent of a page of reservations that may be filled, so that few of them make a large file; and how many those are.
SPREAD_OUT, OLD_RESERVATIONS = 10, 16_000


def hold(offer: Offer, count: int = 1) -> list[Outcome]:
    """What new buyers hear who want a unit each."""
    wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(count)]
    return [answer.outcome for answer in reservations.reserve(offer.pk, wishes)]


def place(offer: Offer, count: int) -> list[Order]:
    """Orders that await their payment."""
    assert hold(offer, count) == [Outcome.RESERVED] * count
    outbox.drain(offer.pk, orders.place)
    return list(Order.objects.order_by("-pk")[:count])


def end(order: Order, how: Callable[[Order], Any]) -> None:
    with transaction.atomic():
        how(order)


def contents(client: redis.Redis) -> dict[str, Any]:
    read: dict[str, Callable[[str], Any]] = {"hash": client.hgetall, "stream": client.xrange}
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


def state_in_redis(order: Order) -> str:
    standing = reservations.look_up(order.offer_id, order.reservation_id)
    assert standing
    return standing.state


def on_the_shelf(offer: Offer) -> tuple[int, int, int]:
    """Units available, held and sold, by Redis alone."""
    levels = stock.levels([offer.pk])[offer.pk]
    assert levels
    return levels.available, levels.held, levels.sold


def assert_sells_on(offer: Offer) -> None:
    """A buyer gets a unit, everything is recorded and told, and the data keep every promise."""
    stock.ready()
    assert hold(offer) == [Outcome.RESERVED]
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()
    assert outbox.waiting_events([offer.pk]) == {offer.pk: 0}
    assert not Effect.objects.filter(applied_at=None).exists()
    assert findings(offer.pk) == []


@contextmanager
def full_memory(client: redis.Redis) -> Iterator[None]:
    """No more than is used already."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def test_full_memory_refuses_holds_and_nothing_else(
    private: PrivateRedis, make_sale: Callable[..., Sale], make_shopper: Callable[[], Shopper]
) -> None:
    """Nobody gets a unit, by function or by page, and no key changes; what is held already is recorded, paid, given
    back, acknowledged and trimmed."""
    with private.running() as client:
        sale, shopper = make_sale(), make_shopper()
        offer, ticket = sale.offers.get(), clicks.ticket(shopper, sale)
        paid, cancelled = place(offer, 2)
        hold(offer)
        with full_memory(client):
            before = contents(client)
            answer = clicks.buy(shopper, sale, ticket)

            assert (answer.status_code, answer.json()["outcome"]) == (503, "PAUSED")
            assert hold(offer, 3) == [Outcome.UNAVAILABLE] * 3
            assert contents(client) == before
            with pytest.raises(InventoryFull):
                stock.ready()

            assert outbox.drain(offer.pk, orders.place) == 1
            end(paid, orders.pay)
            end(cancelled, orders.cancel)
            assert effects.apply_pending() == 2
            assert (state_in_redis(paid), state_in_redis(cancelled)) == ("paid", "released")
            assert clicks.counters(offer) == (18, 1, 1)
            assert findings(offer.pk) == []

        assert clicks.buy(shopper, sale, ticket).json()["outcome"] == "RESERVED"
        assert_sells_on(offer)


def test_events_are_trimmed_from_a_full_memory(
    private: PrivateRedis, make_sale: Callable[..., Sale], settings: Any
) -> None:
    """That makes room: it must not wait for room."""
    settings.EVENTS_KEPT_SECONDS = 0
    with private.running() as client:
        offer = make_sale().offers.get()
        place(offer, 3)
        with full_memory(client):
            assert eventually(outbox.trim_all) == 3


def test_units_that_come_to_a_full_memory_wait(private: PrivateRedis, make_sale: Callable[..., Sale]) -> None:
    """A restock is written down, and on sale as soon as there is room; nobody is sold what is not on the shelf."""
    with private.running() as client:
        offer = make_sale().offers.get()
        with full_memory(client), pytest.raises(InventoryFull):
            stock.change(offer.pk, 5, reason="test", by="staff")
        assert on_the_shelf(offer) == (20, 0, 0)

        stock.finish_changes()

        assert clicks.counters(offer) == (25, 0, 0)
        assert_sells_on(offer)


@needs_file_limits
def test_a_log_that_cannot_be_written_stops_everything_whole(
    private: PrivateRedis, make_sale: Callable[..., Sale]
) -> None:
    """`appendfsync everysec`: once Redis has noticed, it refuses every write. Holds are refused, ends and events wait,
    and all of it goes on when there is room: also the hold that was answered before Redis noticed."""
    with private.running(appendfsync="everysec") as client:
        offer = make_sale().offers.get()
        paid, cancelled = place(offer, 2)
        with no_file_beyond(private.log.stat().st_size, private.process.pid):
            assert hold(offer) == [Outcome.RESERVED]
            eventually(lambda: client.info("persistence")["aof_last_write_status"] == "err")
            before = contents(client)

            assert hold(offer, 3) == [Outcome.UNAVAILABLE] * 3
            end(paid, orders.pay)
            end(cancelled, orders.cancel)
            with pytest.raises(InventoryFull):
                effects.apply_pending()
            with pytest.raises(InventoryUnavailable):
                outbox.drain(offer.pk, orders.place)
            with pytest.raises(InventoryFull):
                stock.ready()
            assert contents(client) == before

        eventually(lambda: client.info("persistence")["aof_last_write_status"] == "ok")
        assert outbox.drain(offer.pk, orders.place) == 1
        effects.apply_pending()
        assert (state_in_redis(paid), state_in_redis(cancelled)) == ("paid", "released")
        assert clicks.counters(offer) == (18, 1, 1)
        assert_sells_on(offer)


@needs_file_limits
def test_a_full_disk_ends_a_redis_that_writes_before_it_answers(
    private: PrivateRedis, make_sale: Callable[..., Sale]
) -> None:
    """`appendfsync always`, as we want it: Redis would rather die than answer what it has not written.

    Nobody was told of a unit, the log ends before the hold, and the same click is good when there is room.
    """
    with private.running():
        offer = make_sale().offers.get()
        place(offer, 2)
        wish = Wish(reservation_id(offer), *a_crowd(1))
        with no_file_beyond(private.log.stat().st_size + 1, private.process.pid):
            [answer] = reservations.reserve(offer.pk, [wish])
            assert answer.outcome == Outcome.UNKNOWN
            eventually(lambda: private.process.poll() is not None)
            assert hold(offer) == [Outcome.UNAVAILABLE]

    with private.running():
        assert on_the_shelf(offer) == (18, 2, 0)
        assert reservations.look_up(offer.pk, wish.reservation_id) is None
        [answer] = reservations.reserve(offer.pk, [wish])
        assert answer.outcome == Outcome.RESERVED
        assert_sells_on(offer)


# --- PostgreSQL


@pytest.fixture
def no_room_for_reservations(transactional_db: None) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """`with no_room_for_reservations():` their table cannot grow any more, for this connection."""

    @contextmanager
    def full() -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        with no_file_beyond(LOG_FILE_BYTES, pid, service_account()):
            yield

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE inventory_reservation SET (fillfactor = %s)", [SPREAD_OUT])
    yield full
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE inventory_reservation RESET (fillfactor)")


@needs_file_limits
def test_a_full_disk_of_postgresql_loses_nothing(
    make_sale: Callable[..., Sale], no_room_for_reservations: Callable[[], AbstractContextManager[None]]
) -> None:
    """The drain fails and says so; reserving goes on; not one row or order of the batch is there, and none is buried.
    With room again, everything is recorded once."""
    offer = make_sale(quantity=100).offers.get()
    fill_with_ended_reservations(make_sale().offers.get())
    assert hold(offer, 40) == [Outcome.RESERVED] * 40
    with no_room_for_reservations():
        for _ in range(2):
            with pytest.raises((InternalError, OperationalError), match="could not extend file"):
                outbox.drain(offer.pk, orders.place)
        assert not Order.objects.exists()
        assert hold(offer, 10) == [Outcome.RESERVED] * 10
        assert outbox.waiting_events([offer.pk]) == {offer.pk: 50}

    assert outbox.drain(offer.pk, orders.place) == 50

    assert Order.objects.count() == 50
    assert not offer.stock.dead_entries.exists()
    assert clicks.counters(offer) == (50, 50, 0)
    assert_sells_on(offer)


def fill_with_ended_reservations(offer: Offer) -> None:
    """So many that the table's next page lies beyond LOG_FILE_BYTES: a page of theirs is nine tenths empty."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO inventory_reservation
                   (id, stock_id, buyer_id, units, reason, state, reserved_at, expires_at, ended_at)
            SELECT %s || '-old-' || number, %s, number, 1, '', 'released', now(), now(), now()
              FROM generate_series(1, %s) number
            """,
            [str(offer.pk), offer.pk, OLD_RESERVATIONS],
        )
        cursor.execute("SELECT pg_relation_size('inventory_reservation')")
        [size] = cursor.fetchone()
    assert size >= LOG_FILE_BYTES, f"{size} bytes: more old reservations are needed"


def test_a_drain_without_postgresql_raises_and_goes_on_afterwards(
    offer: Offer, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """It takes no connection: the batch waits, and is recorded once when PostgreSQL is back."""
    hold(offer, 3)
    connection.close()
    with frozen("postgresql"), pytest.raises(OperationalError):
        outbox.drain(offer.pk, orders.place)
    assert outbox.waiting_events([offer.pk]) == {offer.pk: 3}

    assert outbox.drain(offer.pk, orders.place) == 3

    assert Order.objects.count() == 3
    assert clicks.counters(offer) == (17, 3, 0)
    assert_sells_on(offer)
