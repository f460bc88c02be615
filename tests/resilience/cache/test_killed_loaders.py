"""Whoever loads a key is killed on its way: the others do not wait for it for ever, and do not die with it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilience.cache.single_flight import Flights, LeaderGone
from resilience.cache.tiered import TieredCache
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.resilience.cache.processes import processes
from tests.resilience.cache.test_stampede import NO_REDIS, count_loads, loads, read_one


class Killed(BaseException):
    """As a greenlet's end, or a worker's that is told to go."""


def load_for_ever(cache: TieredCache, _index: int, counter: str) -> None:
    def load() -> None:
        count_loads(counter, ["key"])
        time.sleep(2 * PATIENCE_SECONDS)

    cache.get_or_set("key", load, 60)


#: Two seconds, because memcached may end one of a single second at any moment.
LEASE_IN_REDIS, LEASE_IN_MEMCACHED = {"LEASE_SECONDS": 0.5}, NO_REDIS | {"LEASE_SECONDS": 2.0}


@pytest.mark.parametrize("lease", [LEASE_IN_REDIS, LEASE_IN_MEMCACHED], ids=["in Redis", "in memcached"])
def test_the_lease_of_a_killed_process_goes_to_one_of_those_who_wait(
    location, patient_options, lease, stock_redis
) -> None:
    with processes(3, patient_options | lease, location) as (killed, *waiting):
        killed.ask(load_for_ever, "loads")
        eventually(lambda: loads(stock_redis, "loads")["key"] == 1)
        for each in waiting:
            each.ask(read_one, "loads", threads=5)
        killed.kill()

        answers = [answer for each in waiting for answer in each.result()]

    assert answers == ["value"] * 10
    assert loads(stock_redis, "loads")["key"] == 2


def test_a_killed_reader_does_not_take_those_with_it_who_wait_for_it(cache: TieredCache) -> None:
    """One of them loads, and the others have its value."""
    loading, may_die = threading.Event(), threading.Event()
    attempts: list[int] = []
    cache.get("anything")
    eventually(cache.stack.bus.connected.is_set)  # with this message everybody begins anew

    def load() -> str:
        attempts.append(threading.get_ident())
        if len(attempts) > 1:
            return "value"
        loading.set()
        assert may_die.wait(PATIENCE_SECONDS)
        raise Killed

    def read(_: int) -> str:
        return str(cache.get_or_set("key", load, 60))

    with ThreadPoolExecutor(6) as pool:
        killed = pool.submit(read, 0)
        assert loading.wait(PATIENCE_SECONDS)
        others = [pool.submit(read, number) for number in range(5)]
        eventually(lambda: len(cache.stack.flights._changed._waiters) == 5)
        may_die.set()

        assert [other.result() for other in others] == ["value"] * 5
        with pytest.raises(Killed):
            killed.result()
    assert len(attempts) == 2


def test_what_a_leader_brought_before_it_was_killed_counts() -> None:
    flights = Flights()
    flight, own, _ = flights.claim(["brought", "missing"])
    _, _, others = flights.claim(["brought", "missing"])
    give_up_at = time.monotonic() + PATIENCE_SECONDS

    flight.brings({"brought": 1})
    flights.end(flight, own, Killed())

    assert others["brought"].wait_for("brought", give_up_at) == 1
    with pytest.raises(LeaderGone):
        others["missing"].wait_for("missing", give_up_at)
    assert flights.claim(["missing"])[1] == ["missing"]
