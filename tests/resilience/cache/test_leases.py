"""A lease is for somebody who loads: nobody keeps one and does not."""

import threading
import time
from typing import Any

import pytest

from resilience.cache.leases import Leases
from resilience.cache.tiered import TieredCache
from tests.crowd import PATIENCE_SECONDS
from tests.resilience.cache.own_servers import alias_of

FRESH_SECONDS = 0.05
NOBODY_THERE = "unix:///nowhere/redis.sock?db=0"


@pytest.fixture(params=["redis", "memcached"])
def cache(request: pytest.FixtureRequest, location: str, patient_options: dict[str, Any]) -> TieredCache:
    """One whose leases are kept there."""
    away = {} if request.param == "redis" else {"REDIS": alias_of(NOBODY_THERE)}
    return TieredCache(location, {"OPTIONS": patient_options | away})


def test_a_lease_goes_back_when_the_key_is_refreshed_already(cache: TieredCache) -> None:
    """By somebody whom a tier holds up, and who asks for a lease when it has given that tier up. Kept, it would let
    nobody load for as long as a lease lasts, and the old value ends sooner."""
    name, stack, held_up = cache._name("key", None), cache.stack, threading.Event()
    cache.get_or_set("key", "old", FRESH_SECONDS)
    time.sleep(2 * FRESH_SECONDS)  # by the clock it goes stale, sooner or later by a tenth
    stack.in_background([name], lambda _: held_up.wait(PATIENCE_SECONDS))
    try:
        assert cache.get_or_set("key", "new", FRESH_SECONDS) == "old"

        assert Leases(stack).acquire([name])[name].leased
    finally:
        held_up.set()
