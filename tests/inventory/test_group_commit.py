"""Wishes that wait at the same moment share a trip to Redis, and nothing that happens to a trip is told wrongly."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as configured
from pytest_django import Settings
from redis.connection import AbstractConnection

from inventory import _commit, _connection, _keys, doorbell, reservations
from inventory._scripts import Call, Script
from inventory.outcomes import Answer, InventoryUnavailable, Outcome, Wish
from resilience.batching import Batcher
from shop.models import Offer, Sale
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import At, LoseAnswers, NeverRead, OnlyThere, Refuse, Reset
from tests.people import reservation_id

#: Callers at the same moment.
CROWD = 64
#: Seconds in which a buyer must hear something, however loaded the machine is that runs the tests.
HANGING_SECONDS = 0.8
#: Seconds that a caller waits who shall not be sent, and who shall be sent and hear nothing.
SOON, LATER = 0.05, 0.5

#: What a call of reserve.lua is known by on the wire.
RESERVE = hashlib.sha1(Script("reserve.lua").source.encode()).hexdigest().encode()


@pytest.fixture
def redis_behind(settings: Settings) -> Iterator[Callable[[str], None]]:
    """Stock Redis is at another address from now on."""

    def move(url: str) -> None:
        settings.STOCK_REDIS_URL = url
        _connection.stock_redis.cache_clear()

    yield move
    _connection.stock_redis.cache_clear()


@pytest.fixture
def proxy(redis_behind: Callable[[str], None]) -> Iterator[FaultProxy]:
    """Between this process and stock Redis, which knows the script. One connection is open."""
    with FaultProxy(urlsplit(configured.STOCK_REDIS_URL).path, counting=[RESERVE]) as proxy:
        redis_behind(f"unix://{proxy.address}")
        _connection.stock_redis().script_load(Script("reserve.lua").source)
        yield proxy


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing runs out of time while a test sets its scene."""
    monkeypatch.setattr(_connection, "ANSWER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(_commit, "HEARD_SECONDS", PATIENCE_SECONDS)
    _connection.stock_redis.cache_clear()
    yield
    _connection.stock_redis.cache_clear()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each trip to Redis that carried wishes."""
    sizes: list[int] = []
    send = AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, packed: list[bytes], check_health: bool = True) -> None:
        whole = b"".join(packed)
        if RESERVE in whole:
            sizes.append(len(whole))
        send(self, packed, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return sizes


class Queue:
    """Callers who reserve one unit each, all of them on the way or waiting before Redis reads a word."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._pool = ThreadPoolExecutor(2 * CROWD + 2)
        self._buyers = 0

    def form(self, offers: list[Offer]) -> "list[Future[Answer]]":
        """The first caller is away, the others wait, in this sequence."""
        self._proxy.fault = NeverRead()
        batches = _commit.batcher.batches
        answers = [self.join(offers[0])]
        eventually(lambda: _commit.batcher.batches > batches)
        for number, offer in enumerate(offers[1:], start=1):
            answers.append(self.join(offer))
            eventually(lambda number=number: _commit.batcher.waiting == number)
        return answers

    def join(self, offer: Offer) -> "Future[Answer]":
        self._buyers += 1
        wish = Wish(reservation_id(offer), self._buyers)
        return self._pool.submit(lambda: reservations.reserve(offer.pk, [wish])[0])

    def close(self) -> None:
        self._proxy.heal()
        self._pool.shutdown()


@pytest.fixture
def queue(proxy: FaultProxy) -> Iterator[Queue]:
    queue = Queue(proxy)
    yield queue
    queue.close()


def outcomes(answers: "list[Future[Answer]]") -> list[Outcome]:
    return [answer.result(2 * PATIENCE_SECONDS).outcome for answer in answers]


def held(stock_redis: redis.Redis, offer: Offer) -> int:
    return int(stock_redis.hget(_keys.units(offer.pk), "held") or 0)


@pytest.mark.usefixtures("patient")
def test_a_crowd_makes_two_trips(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, trips: list[int], stock_redis: redis.Redis
) -> None:
    """One of 64 callers is away, 63 wait: they are one script call, and each has its own unit."""
    offer = make_sale(quantity=CROWD).offers.get()
    answers = queue.form([offer] * CROWD)

    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED] * CROWD
    assert proxy.requests(RESERVE) == len(trips) == 2
    assert held(stock_redis, offer) == CROWD


def test_a_crowd_left_alone_shares_trips(make_sale: Callable[..., Sale], stock_redis: redis.Redis) -> None:
    """Nobody is held back: Redis itself counts fewer script calls than callers."""
    offer = make_sale(quantity=40 * CROWD, limit=40).offers.get()
    stock_redis.config_resetstat()

    def buy(buyer: int) -> list[Outcome]:
        return [reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])[0].outcome for _ in range(20)]

    heard = at_once(range(1, CROWD + 1), buy)

    assert heard == [[Outcome.RESERVED] * 20] * CROWD
    assert stock_redis.info("commandstats")["cmdstat_evalsha"]["calls"] < 20 * CROWD / 2


@pytest.mark.usefixtures("patient")
def test_offers_share_a_trip(make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, trips: list[int]) -> None:
    """Three offers, one trip, one script call for each; answers do not get mixed up."""
    lots, few, none = (make_sale(quantity=quantity).offers.get() for quantity in (20, 1, 1))
    reservations.reserve(none.pk, [Wish(reservation_id(none), 99)])
    trips.clear()
    before = proxy.requests(RESERVE)
    answers = queue.form([lots, none, few, lots, few, none, lots])

    proxy.heal()

    assert outcomes(answers) == ["RESERVED", "SOLD_OUT", "RESERVED", "RESERVED", "SOLD_OUT", "SOLD_OUT", "RESERVED"]
    assert len(trips) == 2
    assert proxy.requests(RESERVE) - before == 1 + 3


@pytest.mark.usefixtures("patient")
def test_more_than_a_script_takes_is_still_one_trip(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, trips: list[int]
) -> None:
    """129 callers wait, a script takes 128 wishes: two script calls in the same trip."""
    offer = make_sale(quantity=200).offers.get()
    answers = queue.form([offer] * (1 + _commit.SCRIPT_WISHES + 1))

    proxy.heal()

    assert set(outcomes(answers)) == {Outcome.RESERVED}
    assert len(trips) == 2
    assert proxy.requests(RESERVE) == 3


def test_no_calls_need_no_redis(redis_behind: Callable[[str], None]) -> None:
    """Nothing to ask: nobody to be asked."""
    redis_behind("unix:///nowhere/redis.sock")

    assert Script("reserve.lua").run_each([], _connection.pooled(_connection.stock_redis())) == []


def test_no_wishes_make_no_trip(offer: Offer, trips: list[int]) -> None:
    """Empty input never leaves the process."""
    assert reservations.reserve(offer.pk, []) == []
    assert trips == []


@pytest.mark.usefixtures("patient")
def test_a_broken_offer_breaks_for_its_callers_alone(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, trips: list[int], stock_redis: redis.Redis
) -> None:
    """One offer's data are corrupt: its callers get the error, those who travelled with them a unit."""
    good, bad = make_sale().offers.get(), make_sale().offers.get()
    stock_redis.delete(_keys.buyers(bad.pk))
    stock_redis.set(_keys.buyers(bad.pk), "not what it was")
    answers = queue.form([good, bad, good, bad, good])

    proxy.heal()

    for broken in answers[1::2]:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            broken.result(PATIENCE_SECONDS)
    assert outcomes(answers[::2]) == [Outcome.RESERVED] * 3
    assert len(trips) == 2


@pytest.mark.usefixtures("patient")
def test_a_forgotten_script_is_loaded_for_all(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, trips: list[int], stock_redis: redis.Redis
) -> None:
    """Redis has forgotten the script: the trip is made again once, with the script, and nobody notices."""
    first, second = make_sale().offers.get(), make_sale().offers.get()
    stock_redis.script_flush()
    answers = queue.form([first, first, second, first])

    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED] * 4
    assert len(trips) == 3  # the one that found nothing, the same again, and the next


def test_a_hanging_redis_is_answered_for(
    offer: Offer, stock_redis: redis.Redis, frozen: Callable[[str], AbstractContextManager[None]]
) -> None:
    """All who ask hear in time that nobody knows, or that they were not sent. Asked again, each holds one unit."""
    crowd = [Wish(reservation_id(offer), buyer) for buyer in range(1, 17)]
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), 99)])  # a connection is open

    def ask(wish: Wish) -> tuple[Outcome, float]:
        started = time.monotonic()
        [answer] = reservations.reserve(offer.pk, [wish])
        return answer.outcome, time.monotonic() - started

    with frozen("redis-stock"):
        heard = at_once(crowd, ask)

    assert Outcome.UNKNOWN in {outcome for outcome, _ in heard} <= {Outcome.UNKNOWN, Outcome.BUSY}
    assert max(seconds for _, seconds in heard) < HANGING_SECONDS
    eventually(lambda: not _commit.batcher.waiting)
    again = [reservations.reserve(offer.pk, [wish])[0].outcome for wish in crowd]
    assert set(again) <= {Outcome.RESERVED, Outcome.REPEATED}
    assert held(stock_redis, offer) == 17


@pytest.mark.usefixtures("patient")
def test_a_connection_that_dies_on_the_way_is_made_again(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, stock_redis: redis.Redis
) -> None:
    """Every connection dies with a trip under way: it is made again on another, and each caller has one unit."""
    offer = make_sale().offers.get()
    answers = queue.form([offer] * 8)

    proxy.drop_connections()
    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED] * 8
    assert held(stock_redis, offer) == 8


@pytest.mark.usefixtures("patient")
def test_a_client_that_redis_kills_asks_again(offer: Offer, stock_redis: redis.Redis) -> None:
    """CLIENT KILL, with eight callers on the way or waiting."""
    stock_redis.client_pause(int(PATIENCE_SECONDS * 1_000), all=False)  # scripts wait
    with ThreadPoolExecutor(8) as pool:
        wishes = [Wish(reservation_id(offer), buyer) for buyer in range(1, 9)]
        answers = [pool.submit(lambda wish=wish: reservations.reserve(offer.pk, [wish])[0]) for wish in wishes]
        eventually(lambda: _commit.batcher.waiting == 7)
        eventually(lambda: "evalsha" in {client["cmd"] for client in stock_redis.client_list()})

        stock_redis.client_kill_filter(_type="normal", skipme=True)
        stock_redis.client_unpause()

    assert outcomes(answers) == [Outcome.RESERVED] * 8
    assert held(stock_redis, offer) == 8


#: The end of a script's answer for one wish: `*4 :1 $1 1 $13 <ms> $8 RESERVED`, with line ends.
ONE_ANSWER_BYTES = 49


@pytest.mark.usefixtures("patient")
def test_only_what_was_lost_goes_again(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, stock_redis: redis.Redis
) -> None:
    """Two scripts are carried out, and the connection ends after the first answer: the second script alone is asked
    again, and finds what it did."""
    heard, lost = make_sale().offers.get(), make_sale().offers.get()
    proxy.script = [(At(2, RESERVE), OnlyThere(Reset(after_bytes=ONE_ANSWER_BYTES)))]
    answers = queue.form([heard, heard, lost, lost])

    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED] * 2 + [Outcome.REPEATED] * 2
    assert proxy.requests(RESERVE) == 1 + 2 + 1
    assert (held(stock_redis, heard), held(stock_redis, lost)) == (2, 2)


def test_sent_once_stays_unknown(offer: Offer, proxy: FaultProxy) -> None:
    """The first try may have arrived; that the second was refused says nothing about it."""
    proxy.script = [(At(1, RESERVE), Refuse(dropping=True))]

    [answer] = reservations.reserve(offer.pk, [Wish(reservation_id(offer), 7)])

    assert answer.outcome == Outcome.UNKNOWN


def test_answers_that_never_come_are_unknown(offer: Offer, proxy: FaultProxy) -> None:
    """Carried out twice, heard of never: UNKNOWN. Asked again when the network is back, it is one unit."""
    wish = Wish(reservation_id(offer), 7)
    proxy.fault = LoseAnswers()

    [lost] = reservations.reserve(offer.pk, [wish])
    proxy.heal()
    [found] = reservations.reserve(offer.pk, [wish])

    assert (lost.outcome, found.outcome) == (Outcome.UNKNOWN, Outcome.REPEATED)


@pytest.mark.usefixtures("patient")
def test_nothing_sent_is_unavailable(make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue) -> None:
    """Redis has died: who was on the way does not know, who waited was not sent and knows that."""
    offer = make_sale().offers.get()
    away, *waiting = queue.form([offer] * 4)

    proxy.fault = Refuse(dropping=True)

    assert outcomes([away]) == [Outcome.UNKNOWN]
    assert outcomes(waiting) == [Outcome.UNAVAILABLE] * 3


@pytest.mark.usefixtures("patient")
def test_a_full_queue_is_busy(
    offer: Offer, proxy: FaultProxy, queue: Queue, monkeypatch: pytest.MonkeyPatch, stock_redis: redis.Redis
) -> None:
    """Who would be one too many is told at once, and nothing of his is sent."""
    monkeypatch.setattr(_commit, "batcher", Batcher(_commit._send, batch_maximum=9, queue_maximum=2))
    answers = queue.form([offer] * 3)

    assert outcomes([queue.join(offer)]) == [Outcome.BUSY]

    proxy.heal()
    assert outcomes(answers) == [Outcome.RESERVED] * 3
    assert held(stock_redis, offer) == 3


@pytest.mark.usefixtures("patient")
def test_who_waits_too_long_is_busy(
    offer: Offer, proxy: FaultProxy, queue: Queue, monkeypatch: pytest.MonkeyPatch, stock_redis: redis.Redis
) -> None:
    """A buyer's time runs out while another trip is away: nothing of his is sent, not even later."""
    answers = queue.form([offer])
    monkeypatch.setattr(_commit, "HEARD_SECONDS", SOON)

    assert outcomes([queue.join(offer)]) == [Outcome.BUSY]

    proxy.heal()
    assert outcomes(answers) == [Outcome.RESERVED]
    assert held(stock_redis, offer) == 1


@pytest.mark.usefixtures("patient")
def test_who_was_sent_and_hears_too_late_does_not_know(
    offer: Offer, proxy: FaultProxy, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buyer's time runs out while his own trip is away: UNKNOWN, long before the trip itself is given up."""
    proxy.script = [(At(2, RESERVE), OnlyThere(LoseAnswers()))]
    answers = queue.form([offer])
    monkeypatch.setattr(_commit, "HEARD_SECONDS", LATER)
    late = queue.join(offer)
    eventually(lambda: _commit.batcher.waiting)

    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED]
    assert outcomes([late]) == [Outcome.UNKNOWN]


@pytest.mark.parametrize(("setting", "value"), [("maxmemory", "1"), ("min-replicas-to-write", "1")])
def test_a_redis_that_takes_no_writes_is_unavailable(
    offer: Offer, stock_redis: redis.Redis, setting: str, value: str
) -> None:
    """It answered, and did nothing."""
    wish = Wish(reservation_id(offer), 7)
    stock_redis.config_set(setting, value)
    try:
        [refused] = reservations.reserve(offer.pk, [wish])
    finally:
        stock_redis.config_set(setting, "0")

    assert refused.outcome == Outcome.UNAVAILABLE
    assert reservations.reserve(offer.pk, [wish])[0].outcome == Outcome.RESERVED


@pytest.mark.parametrize("word", ["OOM", "READONLY", "LOADING", "MISCONF", "NOREPLICAS", "BUSY", "NOSCRIPT"])
def test_each_word_of_a_server_that_does_nothing(tmp_path: Path, word: str) -> None:
    """One script call of three is refused with the word; those before and after it are heard."""
    script = Script("any.lua")
    script.path = tmp_path / "any.lua"
    script.path.write_text("return ARGV[2] and redis.error_reply(ARGV[2]) or ARGV[1]")
    calls: list[Call] = [([], ["first"]), ([], ["second", f"{word} cannot do that now"]), ([], ["third"])]

    first, refused, third = script.run_each(calls, _connection.pooled(_connection.stock_redis()))

    assert isinstance(refused, InventoryUnavailable)
    assert (first, third) == ("first", "third")


@pytest.mark.usefixtures("patient")
def test_a_trip_that_holds_units_rings(
    make_sale: Callable[..., Sale], proxy: FaultProxy, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is woken when any offer of a trip says so, once for all of them."""
    rung: list[str] = []
    quiet, loud = make_sale().offers.get(), make_sale().offers.get()
    reservations.reserve(quiet.pk, [Wish("1-x", 99)])
    monkeypatch.setattr(doorbell, "ring", rung.append)
    answers = queue.form([quiet, quiet, loud])

    proxy.heal()

    assert outcomes(answers) == [Outcome.RESERVED] * 3
    assert doorbell.DRAIN in rung
    assert len(rung) <= 2
