"""The way to stock Redis loses, delays and tears what is said: nobody holds twice, and nobody is told a lie."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as configured
from pytest_django import Settings

import inventory
from inventory import _connection, _keys, effects, outbox, recovery, reservations, stock
from inventory._commit import HEARD_SECONDS
from inventory.models import Effect, Reservation, Stock
from inventory.outcomes import Answer, AnswerLost, InventoryUnavailable, Outcome, Wish
from inventory.verification import findings
from shop import opening, orders
from shop.models import Offer, Sale
from tests.crowd import at_once, eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import (
    DOWN,
    UP,
    At,
    Cut,
    Fault,
    Latency,
    LoseAnswers,
    NeverRead,
    OnlyThere,
    Refuse,
    Reset,
    Swallow,
    Trickle,
)
from tests.people import a_crowd, reservation_id

SCRIPT = b"EVALSHA"
#: Seconds beyond HEARD_SECONDS for a second try's least time, and for a machine that is busy with other things.
SLACK_SECONDS = 0.5
#: Every piece comes long before a read is given up, and an answer as a whole, of some fifty bytes, only after seconds.
TRICKLE = Trickle(1, 100, DOWN)


@pytest.fixture
def proxy(settings: Settings, offer: Offer, stock_redis: redis.Redis) -> Iterator[FaultProxy]:
    """Between the shop and its stock Redis, which knows the offer and all scripts. Nothing was asked over it yet."""
    for script in Path(inventory.__file__).parent.glob("*.lua"):
        stock_redis.script_load(script.read_text())
    with FaultProxy(urlsplit(configured.STOCK_REDIS_URL).path, counting=[SCRIPT]) as proxy:
        settings.STOCK_REDIS_URL = f"unix://{proxy.address}?db=0"
        _connection.stock_redis.cache_clear()
        yield proxy
    _connection.stock_redis.cache_clear()


@pytest.fixture
def wish(offer: Offer) -> Wish:
    [buyer] = a_crowd(1)
    return Wish(reservation_id(offer), buyer)


def reserve(offer: Offer, *wishes: Wish) -> list[Outcome]:
    return [answer.outcome for answer in reservations.reserve(offer.pk, list(wishes))]


def held(client: redis.Redis, offer: Offer) -> tuple[int, int]:
    """Units held, and events of holds, by a way of our own."""
    return int(str(client.hget(_keys.units(offer.pk), "held"))), int(client.xlen(_keys.events(offer.pk)))


@contextmanager
def heard_in_time() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HEARD_SECONDS + SLACK_SECONDS


def settle_down(offer: Offer) -> None:
    outbox.drain(offer.pk, orders.place, recovering=True)
    effects.apply_pending()


#: What becomes of one connection at the moment a script is sent over it, and what its caller hears from the second try.
ONCE: dict[str, tuple[Fault, Outcome]] = {
    "the answer is lost": (LoseAnswers(), Outcome.REPEATED),
    "the question is lost": (Swallow(), Outcome.RESERVED),
    "the server hangs": (NeverRead(), Outcome.RESERVED),
    "half the question arrives": (Cut(UP, 40), Outcome.RESERVED),
    "the first byte of the answer breaks it": (Reset(), Outcome.REPEATED),
    "the answer breaks in the middle": (Reset(12), Outcome.REPEATED),
    "the answer ends in the middle": (Cut(DOWN, 12), Outcome.REPEATED),
    "the answer comes too late": (Latency(down_ms=2_000), Outcome.REPEATED),
    "the answer trickles": (TRICKLE, Outcome.REPEATED),
}


@pytest.mark.parametrize("fault", ONCE)
def test_a_second_try_finds_what_the_first_one_did(
    proxy: FaultProxy, offer: Offer, stock_redis: redis.Redis, fault: str
) -> None:
    """Whatever becomes of one connection, its caller hears the truth in time, and holds one unit; no place in front of
    Redis stays taken."""
    bulkhead = _connection.guard.bulkhead
    assert bulkhead
    taken = bulkhead.taken
    strikes, expected = ONCE[fault]
    [first, second] = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(2)]
    proxy.script = [(At(2, SCRIPT), OnlyThere(strikes))]

    assert reserve(offer, first) == [Outcome.RESERVED]
    with heard_in_time():
        assert reserve(offer, second) == [expected]

    assert held(stock_redis, offer) == (2, 2)
    assert proxy.requests(SCRIPT) == 3
    assert bulkhead.taken == taken


@pytest.mark.parametrize("step", [1, 2])
def test_a_redis_that_forgot_its_scripts_may_lose_an_answer_too(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis, step: int
) -> None:
    """Lost is the answer NOSCRIPT, or the one after the script was loaded: in both cases one unit is held."""
    stock_redis.script_flush()
    proxy.script = [(At(step, SCRIPT), OnlyThere(LoseAnswers()))]

    assert reserve(offer, wish) == [Outcome.RESERVED if step == 1 else Outcome.REPEATED]

    assert held(stock_redis, offer) == (1, 1)


#: What becomes of both tries, and whether the first one is carried out meanwhile.
TWICE: dict[str, tuple[Fault, int]] = {
    "both answers are lost": (LoseAnswers(), 1),
    "both questions are lost": (Swallow(), 0),
    "both answers come too late": (Latency(down_ms=2_000), 1),
    "both answers trickle": (TRICKLE, 1),
    "both answers break": (Reset(), 1),
}


@pytest.mark.parametrize("fault", TWICE)
def test_what_is_unknown_is_found_later_as_one_hold(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis, fault: str
) -> None:
    """No answer to either try: the buyer hears UNKNOWN in time. The same ticket, later, is the same unit."""
    strikes, carried_out = TWICE[fault]
    proxy.script = [(At(1, SCRIPT), OnlyThere(strikes))] * 2

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNKNOWN]
    assert held(stock_redis, offer) == (carried_out, carried_out)
    assert proxy.requests(SCRIPT) == 2

    assert reserve(offer, wish) == [Outcome.REPEATED if carried_out else Outcome.RESERVED]
    assert held(stock_redis, offer) == (1, 1)
    settle_down(offer)
    assert findings(offer.pk) == []


@pytest.mark.parametrize("fault", [LoseAnswers(), Swallow(), NeverRead(), Refuse(dropping=True)], ids=str)
def test_who_was_sent_once_and_then_not_again_is_unknown(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis, fault: Fault
) -> None:
    """The first try is carried out unheard, and for the second there is no way: nobody says that nothing was done."""
    leave_a_connection(offer)
    proxy.script = [(At(1, SCRIPT), OnlyThere(LoseAnswers())), (At(1, DOWN), fault)]

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNKNOWN]
    proxy.heal()

    assert reserve(offer, wish) == [Outcome.REPEATED]
    assert held(stock_redis, offer) == (1, 1)


def leave_a_connection(offer: Offer) -> None:
    """One that is greeted and waits in the pool."""
    assert stock.levels([offer.pk])


def test_what_a_frozen_redis_had_been_sent_is_one_hold_when_it_wakes_up(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis
) -> None:
    """It waits in its sockets, and is read after its buyer has heard UNKNOWN."""
    leave_a_connection(offer)
    proxy.fault = NeverRead()

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNKNOWN]
    proxy.heal()

    assert eventually(lambda: held(stock_redis, offer)[0]) == 1
    assert reserve(offer, wish) == [Outcome.REPEATED]
    assert held(stock_redis, offer) == (1, 1)


def test_an_answer_that_trickles_is_left_with_its_connection(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis
) -> None:
    """Its buyer hears UNKNOWN in time; nobody reads the rest of it as an answer to something else."""
    leave_a_connection(offer)
    proxy.fault = TRICKLE

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNKNOWN]

    assert eventually(lambda: proxy.open_connections == 0)
    proxy.heal()
    assert reserve(offer, wish) == [Outcome.REPEATED]
    assert held(stock_redis, offer) == (1, 1)


def test_a_greeting_that_trickles_holds_nobody_up(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis
) -> None:
    """A connection that cannot be made in time is none: nothing was sent over it."""
    proxy.fault = TRICKLE

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNAVAILABLE]

    assert eventually(lambda: proxy.open_connections == 0)
    assert proxy.requests(SCRIPT) == 0
    assert held(stock_redis, offer) == (0, 0)


def test_a_deadline_ends_with_its_trip(proxy: FaultProxy, offer: Offer, wish: Wish) -> None:
    """What was left of one trip is no limit for whoever uses its connection next."""
    assert reserve(offer, wish) == [Outcome.RESERVED]

    pool = _connection.stock_redis().connection_pool
    connection = pool.get_connection()
    assert proxy.connections == 1
    assert connection._get_socket().gettimeout() == _connection.ANSWER_SECONDS
    pool.release(connection)


@pytest.mark.parametrize("dropping", [False, True])
def test_nothing_was_sent_to_a_redis_that_refuses(
    proxy: FaultProxy, offer: Offer, wish: Wish, stock_redis: redis.Redis, dropping: bool
) -> None:
    """UNAVAILABLE is a promise: nothing was done, and nothing will be. Connections that were open do not matter."""
    before = stock_redis.hgetall(_keys.units(offer.pk))
    if dropping:
        leave_a_connection(offer)
    proxy.fault = Refuse(dropping=dropping)

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.UNAVAILABLE]
    proxy.heal()

    assert stock_redis.hgetall(_keys.units(offer.pk)) == before
    assert reserve(offer, wish) == [Outcome.RESERVED]


@pytest.mark.parametrize("fault", [Latency(up_ms=40, down_ms=40, down_jitter_ms=20), Trickle(16, 20, DOWN)], ids=str)
def test_a_slow_way_only_takes_longer(proxy: FaultProxy, offer: Offer, wish: Wish, fault: Fault) -> None:
    """Within the time a buyer waits, latency, jitter and small pieces cost no second try."""
    leave_a_connection(offer)
    proxy.fault = fault

    with heard_in_time():
        assert reserve(offer, wish) == [Outcome.RESERVED]

    assert proxy.requests(SCRIPT) == 1


def test_a_batch_that_loses_its_answer_is_told_to_each_of_its_callers(
    proxy: FaultProxy, offer: Offer, stock_redis: redis.Redis
) -> None:
    """Forty threads, twenty units, three scripts whose answers are lost: each hears the truth, nobody holds twice."""
    crowd = a_crowd(40)
    wishes = {buyer: Wish(reservation_id(offer), buyer) for buyer in crowd}
    proxy.script = [(At(3, SCRIPT), OnlyThere(LoseAnswers()))] * 3

    def click(buyer: int) -> Answer:
        while True:
            [answer] = reservations.reserve(offer.pk, [wishes[buyer]])
            if answer.outcome.is_final:
                return answer

    outcomes = [answer.outcome for answer in at_once(crowd, click)]

    assert sum(outcome.yours for outcome in outcomes) == 20
    assert outcomes.count(Outcome.SOLD_OUT) == 20
    assert held(stock_redis, offer) == (20, 20)


@pytest.mark.parametrize("fault", [LoseAnswers(), Cut(UP, 20)], ids=str)
@pytest.mark.parametrize("step", [1, 2])
def test_a_drain_that_loses_an_answer_is_done_again(
    proxy: FaultProxy, offer: Offer, wish: Wish, step: int, fault: Fault
) -> None:
    """Lost with the statuses or with the acknowledgement: the next drain ends where this one should have."""
    assert reserve(offer, wish) == [Outcome.RESERVED]
    proxy.script = [(At(step, SCRIPT), OnlyThere(fault))]

    with pytest.raises((InventoryUnavailable, AnswerLost)):
        outbox.drain(offer.pk, orders.place)
    outbox.drain(offer.pk, orders.place)

    assert findings(offer.pk) == []
    standing = reservations.look_up(offer.pk, wish.reservation_id)
    assert standing is not None
    assert standing.state == "placed"


@pytest.mark.parametrize("fault", [LoseAnswers(), Cut(UP, 20)], ids=str)
def test_an_effect_whose_answer_is_lost_is_sent_again_and_counts_once(
    proxy: FaultProxy, offer: Offer, wish: Wish, fault: Fault
) -> None:
    """PostgreSQL marks no effect that Redis has not confirmed; the unit comes back once."""
    reserve(offer, wish)
    outbox.drain(offer.pk, orders.place)
    reservations.release(wish.reservation_id)
    proxy.script = [(At(1, SCRIPT), OnlyThere(fault))]

    with pytest.raises((InventoryUnavailable, AnswerLost)):
        effects.apply_pending()
    assert Effect.objects.filter(applied_at=None).count() == 1
    effects.apply_pending()

    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert (levels.available, levels.held) == (20, 0)
    Reservation.objects.update(state="released")
    assert [each for each in findings(offer.pk) if each.promise != 4] == []


@pytest.mark.parametrize("fault", [LoseAnswers(), Cut(UP, 20)], ids=str)
@pytest.mark.parametrize("units", [-3, 4])
def test_a_change_whose_answer_is_lost_is_made_once(proxy: FaultProxy, offer: Offer, units: int, fault: Fault) -> None:
    """It stays pending, and the next look at it finds what the first one did."""
    proxy.script = [(At(1, SCRIPT), OnlyThere(fault))]

    with pytest.raises((InventoryUnavailable, AnswerLost)):
        stock.change(offer.pk, units, reason="test", by="staff")
    assert stock.finish_changes() == 1

    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert levels.quantity == Stock.objects.get(pk=offer.pk).quantity == 20 + units
    assert findings(offer.pk) == []


@pytest.mark.parametrize("fault", [LoseAnswers(), Refuse(dropping=True)], ids=str)
def test_a_pause_that_redis_may_not_have_heard_is_pressed_again(
    proxy: FaultProxy, sale: Sale, offer: Offer, wish: Wish, fault: Fault
) -> None:
    """Staff hears that it went wrong; pressed again, both stores agree, and nothing is sold."""
    proxy.fault = fault
    with pytest.raises((InventoryUnavailable, AnswerLost)):
        opening.pause(sale)
    proxy.heal()

    opening.pause(sale)

    assert reserve(offer, wish) == [Outcome.PAUSED]
    assert findings(offer.pk) == []


def test_a_recovery_over_a_way_that_breaks_at_each_command_comes_to_its_end(
    proxy: FaultProxy, offer: Offer, stock_redis: redis.Redis, settings: Settings
) -> None:
    """The way breaks a little later each time, until it holds for a whole recovery: nothing is sold twice by that."""
    settings.CLAIM_WINDOW_SECONDS = 0
    crowd = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(5)]
    reserve(offer, *crowd)
    outbox.drain(offer.pk, orders.place)
    stock_redis.flushall()

    for sent in range(1, 5_000, 60):
        proxy.drop_connections()
        proxy.script = [(At(sent, UP), OnlyThere(Reset()))]
        if not fails(lambda: recovery.watch(orders.place)):
            break

    proxy.script = []
    settle_down(offer)
    recovery.watch(orders.place)
    assert findings(offer.pk) == []
    levels = stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert (levels.available, levels.held) == (15, 5)
    assert reserve(offer, crowd[0]) == [Outcome.REPEATED]


def fails(work: Callable[[], object]) -> bool:
    try:
        work()
    except (InventoryUnavailable, AnswerLost):
        return True
    return False
