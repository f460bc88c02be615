"""Readers that are killed in the midst of an answer: their connection is gone, and its place is free again."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType

import pymemcache.client.base as pymemcache
import pytest
from django.conf import settings

from resilience.cache.memcached_tier import MemcachedTier
from tests.crowd import PATIENCE_SECONDS

INTERRUPTIONS = 1_000
#: Seconds after which a read is interrupted, at the most: as long as one takes.
LATEST_SECONDS = 0.0002
#: Where a thread waits for the server, or is about to: there greenlets are killed.
TALKING = {
    function.__code__
    for function in (
        pymemcache.Client._fetch_cmd,
        pymemcache.Client._extract_value,
        pymemcache._readline,
        pymemcache._readvalue,
        pymemcache._recv,
    )
}


class Killed(BaseException):
    pass


def kill_if_talking(_number: int, frame: FrameType | None) -> None:
    if frame and frame.f_code in TALKING:
        raise Killed


@pytest.fixture
def interrupting() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, kill_if_talking)
    yield
    signal.signal(signal.SIGALRM, before)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.usefixtures("interrupting")
def test_a_thousand_killed_readers_take_no_connection_with_them_and_leave_no_answer_to_others(location: str) -> None:
    """Each next reader uses the pool at once; an answer that was still to come would be the one it reads."""
    tier = MemcachedTier(settings.CACHES["default"]["OPTIONS"]["MEMCACHED"], f"{location}:", PATIENCE_SECONDS)
    values = {f"key:{number}": f"value {number} ".encode() * 50 for number in range(50)}
    tier.store(values, {})
    random, killed, answered = Random(location), 0, 0

    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while killed < INTERRUPTIONS:
        assert time.monotonic() < give_up_at
        names = random.sample(sorted(values), random.choice((1, 1, 5)))
        try:
            with interrupted_after(random.uniform(LATEST_SECONDS / 10, LATEST_SECONDS)):
                found = tier.read(names)
        except Killed:
            killed += 1
        else:
            answered += 1
            assert {name: each.data for name, each in found.items()} == {name: values[name] for name in names}

    [node] = tier._nodes.values()
    assert answered
    assert node._pool.client_pool.used == ()
    assert {name: each.data for name, each in tier.read(values).items()} == values
