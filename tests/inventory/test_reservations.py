"""Holding and ending: races for the last units, and one winner for each end."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import redis
from pytest_django import Settings

from inventory import _connection, _keys, effects, outbox, reservations, stock
from inventory.models import Effect, Reservation, Stock
from inventory.outcomes import InventoryUnavailable, Outcome, Wish
from shop import orders
from shop.models import Offer, Order, Sale
from tests.crowd import at_once
from tests.people import a_crowd, reservation_id


def test_the_last_unit_goes_to_one_buyer(make_sale: Callable[..., Sale]) -> None:
    """Two hundred buyers, one unit: one holds it, the others hear SOLD_OUT, nobody an error."""
    offer = make_sale(quantity=1).offers.get()

    outcomes = at_once(range(1, 201), lambda buyer: _reserve(offer, buyer))

    assert outcomes.count(Outcome.RESERVED) == 1
    assert outcomes.count(Outcome.SOLD_OUT) == 199


def test_twenty_units_for_two_hundred(offer: Offer) -> None:
    """Two hundred threads at once on twenty units: twenty held, PostgreSQL says twenty, the counters add up."""
    crowd = a_crowd(200)

    outcomes = at_once(crowd, lambda buyer: _reserve(offer, buyer))
    outbox.drain(offer.pk, orders.place)

    assert outcomes.count(Outcome.RESERVED) == 20
    assert outcomes.count(Outcome.SOLD_OUT) == 180
    levels, row = stock.levels([offer.pk])[offer.pk], Stock.objects.get(pk=offer.pk)
    assert levels is not None
    assert (levels.available, levels.held, levels.sold) == (row.available, row.held, row.sold) == (0, 20, 0)
    assert Reservation.objects.filter(state="held").count() == Order.objects.count() == 20


def test_one_buyer_at_once_stays_within_the_limit(make_sale: Callable[..., Sale]) -> None:
    """Fifty clicks of one buyer with a limit of three hold three units."""
    offer = make_sale(limit=3).offers.get()

    outcomes = at_once([7] * 50, lambda buyer: _reserve(offer, buyer))

    assert outcomes.count(Outcome.RESERVED) == 3
    assert outcomes.count(Outcome.LIMIT_REACHED) == 47


def test_one_reservation_at_once_is_one(offer: Offer) -> None:
    """The same reservation from fifty threads: RESERVED once, REPEATED for the rest, one unit."""
    wish = Wish(reservation_id(offer), 7)

    outcomes = at_once([wish] * 50, lambda wish: reservations.reserve(offer.pk, [wish])[0].outcome)

    assert outcomes.count(Outcome.RESERVED) == 1
    assert outcomes.count(Outcome.REPEATED) == 49


def _reserve(offer: Offer, buyer: int) -> Outcome:
    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
    return answer.outcome


def test_more_wishes_than_a_batch_are_split(make_sale: Callable[..., Sale]) -> None:
    """Three hundred wishes in one call are answered in order."""
    offer = make_sale(quantity=250).offers.get()

    answers = reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer) for buyer in range(1, 301)])

    assert [answer.outcome for answer in answers] == ["RESERVED"] * 250 + ["SOLD_OUT"] * 50


@pytest.fixture
def dead_redis(settings: Settings) -> None:
    """Stock Redis cannot be reached from here."""
    settings.STOCK_REDIS_URL = "unix:///nowhere/redis.sock"
    _connection.stock_redis.cache_clear()
    yield
    _connection.stock_redis.cache_clear()


@pytest.mark.usefixtures("dead_redis")
def test_an_unreachable_redis_is_an_answer(db: None) -> None:
    """Nothing was sent: UNAVAILABLE for wishes, InventoryUnavailable for questions."""
    [answer] = reservations.reserve(1, [Wish("1-x", 7)])

    assert answer.outcome == Outcome.UNAVAILABLE
    with pytest.raises(InventoryUnavailable):
        reservations.look_up(1, "1-x")
    with pytest.raises(InventoryUnavailable):
        stock.levels([1])


def test_a_lost_answer_is_unknown_and_repeatable(
    offer: Offer, stock_redis: redis.Redis, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """A Redis that hangs gives UNKNOWN; awake again, the same reservation is found and holds one unit."""
    wish = Wish(reservation_id(offer), 7)
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 8)])  # a connection is open

    with frozen("redis-stock"):
        [lost] = reservations.reserve(offer.pk, [wish])
    [found] = reservations.reserve(offer.pk, [wish])

    assert lost.outcome == Outcome.UNKNOWN
    assert found.outcome in (Outcome.RESERVED, Outcome.REPEATED)
    assert stock_redis.hget(_keys.units(offer.pk), "held") == "2"


@pytest.fixture
def placed(offer: Offer) -> str:
    """A recorded hold of one unit."""
    [buyer] = a_crowd(1)
    wish = Wish(reservation_id(offer), buyer)
    reservations.reserve(offer.pk, [wish])
    outbox.drain(offer.pk, orders.place)
    return wish.reservation_id


@pytest.mark.parametrize(
    ("end", "row", "redis_state"),
    [(reservations.confirm, (0, 1), "paid"), (reservations.release, (0, 0), "released")],
)
def test_an_end_is_told_to_redis(
    offer: Offer, placed: str, end: Callable[[str], bool], row: tuple[int, int], redis_state: str
) -> None:
    """PostgreSQL moves the units and writes the effect; applied, Redis says the same, and nothing is left to apply."""
    assert end(placed) is True
    assert Stock.objects.values_list("held", "sold").get(pk=offer.pk) == row

    assert effects.apply_pending() == 1

    standing, levels = reservations.look_up(offer.pk, placed), stock.levels([offer.pk])[offer.pk]
    assert standing is not None
    assert levels is not None
    assert standing.state == redis_state
    assert (levels.held, levels.sold) == row
    assert effects.apply_pending() == 0


def test_a_hold_ends_once(placed: str) -> None:
    """Confirm, release and expiry at the same moment: exactly one of them wins, and one effect is written."""
    Reservation.objects.update(expires_at="2020-01-01T00:00:00Z")
    ends = [reservations.confirm, reservations.release, lambda _: bool(reservations.expire_due(lambda _: None))]

    won = at_once(ends, lambda end: end(placed))

    assert won.count(True) == 1
    assert Effect.objects.count() == 1


def test_an_unpaid_hold_comes_back_and_is_bought_by_somebody_else(make_sale: Callable[..., Sale]) -> None:
    """The only unit runs out of time, goes back on sale, and somebody else gets it."""
    offer = make_sale(quantity=1).offers.get()
    first, second = a_crowd(2)
    assert _reserve(offer, first) == Outcome.RESERVED
    outbox.drain(offer.pk, orders.place)
    assert _reserve(offer, second) == Outcome.SOLD_OUT
    Reservation.objects.update(expires_at="2020-01-01T00:00:00Z")

    assert reservations.expire_due(orders.expire) == 1
    effects.apply_pending()

    assert Order.objects.get().state == Order.State.EXPIRED
    assert _reserve(offer, second) == Outcome.RESERVED
    assert reservations.expire_due(orders.expire) == 0


def test_a_hold_that_cannot_be_ended_holds_up_no_other(
    make_sale: Callable[..., Sale], caplog: pytest.LogCaptureFixture
) -> None:
    """Of five holds that have run out, PostgreSQL refuses one: the first sweep ends the others, the next one does not
    try it again, and comes to who is due since."""
    offer = make_sale(quantity=6).offers.get()
    outcomes = [_reserve(offer, buyer) for buyer in a_crowd(5)]
    outbox.drain(offer.pk, orders.place)
    poison = str(Reservation.objects.order_by("pk").values_list("pk", flat=True)[2])
    Reservation.objects.filter(pk=poison).update(units=1_000)  # more than are held: the counter would fall below none
    Reservation.objects.update(expires_at="2020-01-01T00:00:00Z")

    swept = [reservations.expire_due(orders.expire), reservations.expire_due(orders.expire)]

    assert outcomes == [Outcome.RESERVED] * 5
    assert swept == [4, 0]
    assert Stock.objects.get(pk=offer.pk).held == 1
    assert set(Reservation.objects.filter(state="held").values_list("pk", flat=True)) == {poison}
    assert set(Order.objects.filter(state=Order.State.AWAITING_PAYMENT).values_list("reservation", flat=True)) == {
        poison
    }
    [told] = [record.getMessage() for record in caplog.records if record.name == reservations.__name__]
    assert poison in told


def test_payment_grace_keeps_a_hold(placed: str, settings: Settings) -> None:
    """A hold is not expired before deadline and grace are over."""
    settings.PAYMENT_GRACE_SECONDS = 3_600

    assert reservations.expire_due(orders.expire) == 0


def test_nothing_due_costs_one_query(placed: str, django_assert_num_queries: Callable[[int], object]) -> None:
    """The sweep of a quiet second is one look at the deadline index (and its transaction)."""
    with django_assert_num_queries(3):  # savepoint-free BEGIN, SELECT, COMMIT
        reservations.expire_due(orders.expire)
