"""What a dependency hears in a full outage, counted by a proxy before it that resets whatever comes.

The shop's own clients ask, as often and as fast as they can. Each call may be heard once; together they may be heard a
tenth more often, which is what saved retries cost; with a breaker before it, a dependency hears far less.
"""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as configured
from pytest_django import Settings

from inventory import _connection, reservations
from inventory.outcomes import InventoryUnavailable, Outcome, Wish
from resilience.cache.tiered import TieredCache
from resilience.rate_limit import Limit, RateLimiter
from resilience.retry import Budget
from shop import provider
from shop.models import Offer
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import At, OnlyThere, Reset, Step
from tests.free_ports import free_port
from tests.people import a_crowd, reservation_id
from tests.resilience.cache.own_servers import alias_of

#: Enough that ten saved retries are a tenth of them.
CALLS = 100
#: So often may all calls together be heard.
HEARD_AT_MOST = 1.1 * CALLS
SCRIPT, READ = b"EVALSHA", b"HMGET"


def in_vain(call: Callable[[], object], *expected: type[Exception]) -> None:
    for _ in range(CALLS):
        try:
            call()
        except expected:
            continue


@pytest.fixture
def stock_proxy(settings: Settings, offer: Offer) -> Iterator[FaultProxy]:
    """Between the shop and stock Redis. Connections can be made, and break as soon as something is answered to them: a
    reset of all would be met while the client says hello, when nothing was sent that could be lost."""
    with FaultProxy(urlsplit(configured.STOCK_REDIS_URL).path, counting=[SCRIPT, READ]) as proxy:
        settings.STOCK_REDIS_URL = f"unix://{proxy.address}?db=0"
        _connection.stock_redis.cache_clear()
        yield proxy
    _connection.stock_redis.cache_clear()


def each_breaks(request: bytes) -> list[Step]:
    """The connection of each such request, and of more of them than are expected."""
    return [(At(1, request), OnlyThere(Reset()))] * (3 * CALLS)


def test_the_payment_provider(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks into its books: each call would try three times, and ten retries are all that is saved."""
    monkeypatch.setattr(provider.asking, "budget", Budget("payment provider"))
    with FaultProxy(("127.0.0.1", free_port()), counting=[b"GET /charges"]) as proxy:
        settings.PROVIDER_URL = "http://{}:{}".format(*proxy.address)
        proxy.fault = Reset()
        in_vain(lambda: provider.state_of("ch_1"), provider.ProviderUnavailable)

        assert 0 < proxy.connections <= HEARD_AT_MOST


def test_reserving(stock_proxy: FaultProxy, offer: Offer) -> None:
    """Each answer is lost, and the second tries are soon used up: nobody is told anything but the truth."""
    stock_proxy.script = each_breaks(SCRIPT)
    outcomes = {
        answer.outcome
        for buyer in a_crowd(CALLS)
        for answer in reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
    }

    assert 0 < stock_proxy.requests(SCRIPT) <= HEARD_AT_MOST
    assert outcomes <= {Outcome.UNKNOWN, Outcome.UNAVAILABLE}


def test_asking_stock_redis(stock_proxy: FaultProxy, offer: Offer) -> None:
    """Reads are never tried again: the poll is, by the page."""
    stock_proxy.script = each_breaks(READ)
    in_vain(lambda: reservations.look_up(offer.pk, f"{offer.pk}-x"), InventoryUnavailable)

    assert 0 < stock_proxy.requests(READ) <= CALLS


@pytest.fixture
def cache_proxies() -> Iterator[tuple[FaultProxy, FaultProxy, TieredCache]]:
    """Before the cache's Redis and memcached, both resetting; and a cache behind them."""
    [memcached] = configured.CACHES["default"]["OPTIONS"]["MEMCACHED"]
    with (
        FaultProxy(urlsplit(configured.CACHE_REDIS_URL).path) as before_redis,
        FaultProxy(memcached) as before_memcached,
    ):
        before_redis.fault = before_memcached.fault = Reset()
        alias = alias_of(f"unix://{before_redis.address}?db=0")
        options = {"REDIS": alias, "MEMCACHED": [str(before_memcached.address)]}
        cache = TieredCache(f"amplified-{before_redis.address}", {"OPTIONS": options})
        yield before_redis, before_memcached, cache
        cache.stack.bus.end()


def test_the_tiers_of_the_cache(cache_proxies: tuple[FaultProxy, FaultProxy, TieredCache]) -> None:
    """Reads ask a tier once, and invalidations twice until the breaker opens; soon neither tier hears anything."""
    before_redis, before_memcached, cache = cache_proxies
    in_vain(lambda: cache.get("key"))
    in_vain(lambda: cache.delete("key"))

    assert 0 < before_redis.connections <= HEARD_AT_MOST
    assert 0 < before_memcached.connections <= HEARD_AT_MOST


def test_rate_limits(cache_proxies: tuple[FaultProxy, FaultProxy, TieredCache]) -> None:
    """Each click asks Redis once at most, and is decided without it."""
    before_redis, _, _ = cache_proxies
    alias = alias_of(f"unix://{before_redis.address}?db=0")
    limiter: Any = RateLimiter(alias, prefix="rate-of-the-outage:")
    waits = {limiter.retry_after((Limit("each", 1.0, 10_000), "key")) for _ in range(CALLS)}

    assert 0 < before_redis.connections <= HEARD_AT_MOST
    assert waits == {0.0}
