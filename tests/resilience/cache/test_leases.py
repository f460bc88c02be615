"""A lease is for somebody who loads: nobody keeps one and does not."""

import threading
from typing import Any

import pytest
import redis

from resilience.cache.away import TierAway
from resilience.cache.leases import Leases
from resilience.cache.redis_tier import ORPHAN_MS, RedisTier
from resilience.cache.tiered import TieredCache
from resilience.clock import now_ms
from shop.local.servers import Running
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.resilience.cache.own_servers import OwnServer, alias_of

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
    eventually(lambda: not stack.has_fresh(name))
    stack.in_background([name], lambda _: held_up.wait(PATIENCE_SECONDS))
    try:
        assert cache.get_or_set("key", "new", FRESH_SECONDS) == "old"

        assert Leases(stack).acquire([name])[name].leased
    finally:
        held_up.set()


def test_a_redis_that_hung_leases_to_those_who_have_gone_for_a_moment_only(servers: Running) -> None:
    """It finds their questions when it goes on, and answers nobody."""
    with OwnServer(servers, "redis-cache").running() as server, redis.Redis.from_url(server.url) as seen:
        tier = RedisTier(alias_of(f"{server.url}&socket_timeout=0.1"), "test:")
        assert tier.acquire(["before"], "token", 60_000, now_ms(), {})["before"].leased
        server.freeze()
        with pytest.raises(TierAway):
            tier.acquire(["key"], "token", 60_000, now_ms(), {})
        server.thaw()

        eventually(lambda: seen.info("commandstats")["cmdstat_evalsha"]["calls"] == 2 + 1)  # the first found no script
        assert seen.pttl("test:lease:key") <= ORPHAN_MS
        assert seen.pttl("test:lease:before") > ORPHAN_MS
