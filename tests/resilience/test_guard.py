"""What a guard refuses and in which order, and what it does when a real server is killed, hangs, is slow or fails."""

import random
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings
from prometheus_client import REGISTRY
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilience import breaker, deadline
from resilience import guard as guards
from resilience.breaker import CLOSED, OPEN, Breaker
from resilience.guard import BreakerOpen, DeadlinePassed, Full, Guard, Thresholds
from resilience.retry import Policy, Retrying
from shop.local.servers import Running
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Latency, NeverRead, Refuse
from tests.resilience.cache.own_servers import OwnServer

#: Seconds that a client waits here.
TIMEOUT_SECONDS = 0.5

_names = count(1)


class Broken(Exception):
    pass


def name() -> str:
    """One that no other test has counted by."""
    return f"the neighbour {next(_names)}"


def counted(guard: Guard, result: str) -> float:
    return REGISTRY.get_sample_value("dependency_calls_total", {"dependency": guard.name, "result": result}) or 0.0


def fail(guard: Guard, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Broken), guard.watching():
            raise Broken


# --- What it refuses -------------------------------------------------------------------------------------------------


def test_nothing_is_begun_when_no_time_is_left() -> None:
    """Not even a place is taken, though there is none to be had and the breaker is open."""
    guard = Guard(name(), at_once=1)
    guard.breaker.force_open()
    assert guard.bulkhead
    assert guard.bulkhead.enter_at_once()

    with deadline.within(0), pytest.raises(DeadlinePassed), guard.watching():
        pytest.fail("this was called")

    assert counted(guard, "late") == 1


def test_more_than_its_places_are_refused_and_every_place_comes_back() -> None:
    guard = Guard(name(), at_once=2, thresholds=Thresholds(silence_seconds=0))
    with guard.watching(), guard.watching(), pytest.raises(Full), guard.watching():
        pytest.fail("this was called")
    assert counted(guard, "full") == 1

    fail(guard, 3)
    for _ in range(10):
        with pytest.raises(BreakerOpen), guard.watching():
            pytest.fail("this was called")

    assert guard.bulkhead
    assert guard.bulkhead.taken == 0
    assert (counted(guard, "failed"), counted(guard, "refused")) == (3, 10)


def test_when_all_places_are_taken_by_calls_that_hang_the_next_opens_the_breaker() -> None:
    """Nobody gets a place, so nobody would look at the calls that hang if whoever finds none did not."""
    guard = Guard(name(), at_once=3, thresholds=Thresholds(slow_seconds=0.05))
    hanging = threading.Event()

    def hang(_: int) -> bool:
        with guard.watching():
            return hanging.wait(PATIENCE_SECONDS)

    def opened() -> bool:
        with pytest.raises((Full, BreakerOpen)), guard.watching():
            pytest.fail("there was a place")
        return guard.breaker.state == OPEN

    def look(_: int) -> bool:
        try:
            eventually(lambda: guard.bulkhead and guard.bulkhead.taken == 3)
            return eventually(opened)
        finally:
            hanging.set()

    assert at_once(range(4), lambda person: look(person) if person == 3 else hang(person)) == [True] * 4


def test_a_retry_tries_what_failed_and_never_what_was_refused() -> None:
    guard = Guard(name(), retrying=Retrying("the neighbour", on=Broken, policy=Policy(pause_seconds=0)))
    tries = []

    def attempt() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise Broken
        return "answer"

    assert guard.call(attempt) == "answer"
    assert len(tries) == 2

    guard.breaker.force_open()
    with pytest.raises(BreakerOpen):
        guard.call(attempt)
    assert counted(guard, "refused") == 1


def test_what_the_deadline_cut_off_at_once_is_not_held_against_it() -> None:
    """Whoever comes late fails by lateness, and a crowd of them would keep everybody from a healthy neighbour."""
    guard = Guard(name())

    def wait_in_vain() -> None:
        eventually(lambda: not deadline.left_seconds())
        raise Broken

    for _ in range(10):
        with deadline.within(0.03), pytest.raises(Broken), guard.watching():
            wait_in_vain()

    assert guard.breaker.is_closed
    assert counted(guard, "late") == 10


def test_they_are_known_by_name_in_this_process() -> None:
    guard = Guard(name())

    assert guard in guards.all_of_this_process()


# --- What it does in an outage, with a real Redis behind a proxy -----------------------------------------------------


def impatient(socket: str) -> redis.Redis:
    """One that tries once."""
    limits = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    return redis.Redis(unix_socket_path=socket, retry=Retry(NoBackoff(), 0), **limits)


class Neighbour:
    """A Redis behind a proxy, asked through a guard by clients that wait TIMEOUT_SECONDS."""

    def __init__(self, proxy: FaultProxy, **limits: float) -> None:
        self.proxy = proxy
        self.guard = Guard(name(), thresholds=Thresholds(**limits))  # type: ignore[arg-type]
        self._client = impatient(str(proxy.address))

    def answers(self) -> bool:
        with self.guard.watching():
            return bool(self._client.ping())

    def try_it(self, _: int = 0) -> str:
        try:
            return "answered" if self.answers() else "wrong"
        except BreakerOpen:
            return "refused"
        except redis.RedisError:
            return "failed"

    @property
    def requests(self) -> int:
        return self.proxy.requests(b"PING")


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    socket = Path(urlsplit(settings.CACHE_REDIS_URL).path)
    with FaultProxy(socket, counting=[b"PING"]) as proxy:
        yield proxy


@pytest.fixture
def neighbour(proxy: FaultProxy) -> Neighbour:
    neighbour = Neighbour(proxy)
    eventually(lambda: [neighbour.try_it() for _ in range(20)] == ["answered"] * 20)
    return neighbour


def until_open(neighbour: Neighbour) -> list[str]:
    """What callers hear, eight at a time, until somebody is refused."""
    heard: list[str] = []
    while "refused" not in heard:
        heard += at_once(range(8), neighbour.try_it)
    return heard


def closes_again(neighbour: Neighbour) -> None:
    """After the open time that was running when it healed, or the one after that: its trials succeed."""
    changes: list[str] = []

    def note(changed: Breaker, state: str) -> None:
        if changed is neighbour.guard.breaker:
            changes.append(state)

    breaker.listen(note)
    try:
        eventually(lambda: neighbour.try_it() == "answered" and neighbour.guard.breaker.state == CLOSED)
    finally:
        breaker.stop_listening(note)
    assert changes.count(OPEN) <= 1
    assert changes[-2:] == ["half-open", "closed"]


def test_killed(neighbour: Neighbour) -> None:
    """It is refused as soon as it is clear that nobody gets an answer, then not a byte is sent; it heals by itself."""
    neighbour.proxy.fault = Refuse(dropping=True)

    until_open(neighbour)

    connections = neighbour.proxy.connections
    assert set(at_once(range(8), neighbour.try_it)) == {"refused"}
    assert neighbour.proxy.connections == connections
    neighbour.proxy.heal()
    closes_again(neighbour)


def test_hung(neighbour: Neighbour) -> None:
    """Nobody waits for it longer than three times: one caller alone hears three timeouts, then refusals."""
    neighbour.proxy.fault = NeverRead()

    assert [neighbour.try_it() for _ in range(5)] == ["failed"] * 3 + ["refused"] * 2

    neighbour.proxy.heal()
    closes_again(neighbour)


def test_eight_who_hang_at_once_are_the_only_ones(neighbour: Neighbour) -> None:
    """One round of timeouts, and the next eight are refused."""
    neighbour.proxy.fault = NeverRead()

    heard = at_once(range(8), neighbour.try_it)

    assert set(heard) <= {"failed", "refused"}
    assert set(at_once(range(8), neighbour.try_it)) == {"refused"}


def test_stopped_by_a_signal(servers: Running) -> None:
    """SIGSTOP: the sockets stay, connections are taken, nothing is answered."""
    with OwnServer(servers, "redis-cache").running() as server:
        client = impatient(str(server.socket))
        guard = Guard(name())

        def try_it() -> str:
            try:
                with guard.watching():
                    return "answered" if client.ping() else "wrong"
            except BreakerOpen:
                return "refused"
            except redis.RedisError:
                return "failed"

        assert try_it() == "answered"
        server.freeze()
        heard = [try_it() for _ in range(5)]
        server.thaw()

        assert heard == ["failed"] * 3 + ["refused"] * 2
        eventually(lambda: try_it() == "answered" and guard.breaker.is_closed)


def test_slow(proxy: FaultProxy) -> None:
    """It answers, but so slowly that it is no use; in one window it opens."""
    neighbour = Neighbour(proxy, slow_seconds=0.02, calls_minimum=10)
    proxy.fault = Latency(down_ms=30)

    heard = [neighbour.try_it() for _ in range(11)]

    assert heard[-1] == "refused"
    assert set(heard[:-1]) == {"answered"}
    proxy.heal()
    closes_again(neighbour)


def test_sixty_in_a_hundred_fail(neighbour: Neighbour) -> None:
    """By chance, and with no count of failures in a row, which is all that pybreaker would have."""
    chance, heard = random.Random(17), []
    guard = Guard(name(), thresholds=Thresholds(failures_in_a_row=1_000))

    for _ in range(200):
        try:
            with guard.watching():
                assert neighbour.answers()
                if chance.random() < 0.6:
                    raise Broken
        except (Broken, BreakerOpen) as error:
            heard.append(type(error))

    assert BreakerOpen in heard
    assert guard.breaker.state == OPEN


def test_calls_are_not_serialised(neighbour: Neighbour) -> None:
    """Eight calls of 50 ms are under way together: all eight have asked before the first is answered."""
    at_once(range(8), neighbour.try_it)  # connections
    asked = neighbour.requests
    neighbour.proxy.fault = Latency(down_ms=50)
    overlap, under_way, most, counting = threading.Barrier(8), 0, 0, threading.Lock()

    def call(_: int) -> str:
        nonlocal under_way, most
        with neighbour.guard.watching():
            with counting:
                under_way += 1
                most = max(most, under_way)
            overlap.wait(PATIENCE_SECONDS)  # nobody gets past it before the last one is inside
            answer = neighbour._client.ping()
            with counting:
                under_way -= 1
        return "answered" if answer else "wrong"

    assert at_once(range(8), call) == ["answered"] * 8
    assert most == 8
    assert neighbour.requests == asked + 8
