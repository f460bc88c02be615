"""Readers whose time is short: they wait for others no longer than somebody waits for them, and take nobody along."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from resilience import deadline
from resilience.cache.leases import Leases
from resilience.cache.reading import NobodyLoaded
from resilience.cache.stack import LOADS_AT_ONCE
from resilience.cache.tiered import TieredCache
from resilience.deadline import DeadlinePassed
from resilience.refused import Refused
from tests.crowd import PATIENCE_SECONDS, eventually

#: Seconds of somebody in a hurry: far less than a lease lasts.
SHORT_SECONDS = 0.2


class Load:
    """A loader that is held up until it may answer."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = threading.Event()

    def __call__(self) -> str:
        self.times += 1
        assert self.may_answer.wait(PATIENCE_SECONDS)
        return "value"


@pytest.fixture
def load() -> Iterator[Load]:
    load = Load()
    yield load
    load.may_answer.set()


@pytest.fixture(autouse=True)
def _listening(cache: TieredCache) -> None:
    """The first message of the bus has come: with it everybody begins anew."""
    cache.get("anything")
    eventually(cache.stack.bus.connected.is_set)


@contextmanager
def is_given_up() -> Iterator[None]:
    with deadline.within(SHORT_SECONDS), pytest.raises((NobodyLoaded, Refused)):
        yield


def test_a_lease_of_another_process_is_waited_for_until_the_deadline(cache: TieredCache) -> None:
    """Its holder loads for longer than the reader has; the lease ends in seconds only."""
    Leases(cache.stack).acquire(["key"])

    with is_given_up():
        cache.get_or_set("key", lambda: "value", 60)


def test_another_reader_is_followed_until_the_deadline(cache: TieredCache, load: Load) -> None:
    """The one that is followed goes on, for others."""
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(cache.get_or_set, "key", load, 60)
        eventually(lambda: load.times == 1)

        with is_given_up():
            cache.get_or_set("key", load, 60)

        load.may_answer.set()
        assert leader.result() == "value"
    assert load.times == 1


def test_a_place_to_load_is_waited_for_until_the_deadline(cache: TieredCache, load: Load) -> None:
    """All places are taken by loads that hang."""
    with ThreadPoolExecutor(LOADS_AT_ONCE) as pool:
        hanging = [pool.submit(cache.get_or_set, f"key {number}", load, 60) for number in range(LOADS_AT_ONCE)]
        eventually(lambda: load.times == LOADS_AT_ONCE)

        with is_given_up():
            cache.get_or_set("another key", lambda: "value", 60)

        load.may_answer.set()
        assert [each.result() for each in hanging] == ["value"] * LOADS_AT_ONCE
    assert cache.get_or_set("another key", lambda: "value", 60) == "value"


def test_who_follows_a_reader_whose_time_is_over_goes_on_alone(cache: TieredCache, load: Load) -> None:
    """The one that was in a hurry hears that; the other one, which is not, has the value."""

    def load_in_a_hurry() -> None:
        load()
        eventually(lambda: not deadline.left_seconds())
        raise DeadlinePassed("too late to ask")

    def read_in_a_hurry() -> None:
        with deadline.within(SHORT_SECONDS):
            cache.get_or_set("key", load_in_a_hurry, 60)

    with ThreadPoolExecutor(2) as pool:
        hurried = pool.submit(read_in_a_hurry)
        eventually(lambda: load.times == 1)
        patient = pool.submit(cache.get_or_set, "key", lambda: "value", 60)
        eventually(lambda: len(cache.stack.flights._changed._waiters) == 1)
        load.may_answer.set()

        assert patient.result() == "value"
        with pytest.raises(DeadlinePassed):
            hurried.result()
