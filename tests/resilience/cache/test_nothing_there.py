"""What does not exist is remembered too, and who asks for nothing causes nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from resilience.cache.tiered import TieredCache
from tests.crowd import eventually
from tests.faults.fault_proxy import FaultProxy
from tests.resilience.cache.own_servers import alias_of
from tests.resilience.cache.processes import all_at_once, processes


class Shelves:
    """A loader that counts what it is asked."""

    def __init__(self, **there: Any) -> None:
        self.there = there
        self.asked: list[str] = []

    def one(self, key: str) -> Any:
        return self.many([key]).get(key)

    def many(self, keys: list[str]) -> dict[str, Any]:
        self.asked += keys
        return {key: self.there[key] for key in keys if key in self.there}


def test_what_is_not_there_is_asked_for_once(cache: TieredCache) -> None:
    shelves = Shelves()

    for _ in range(100):
        assert cache.get_or_set("lamp", lambda: shelves.one("lamp")) is None

    assert shelves.asked == ["lamp"]
    assert cache.tally()["negative"] == 1


def ask(cache: TieredCache, index: int) -> int:
    """How often the loader was asked."""
    shelves = Shelves()
    for _ in range(10):
        assert cache.get_or_set("lamp", lambda: shelves.one("lamp")) is None
    return len(shelves.asked)


def test_what_one_process_did_not_find_no_other_looks_for(location: str, patient_options: dict[str, Any]) -> None:
    with processes(3, patient_options, location) as readers:
        assert sum(all_at_once(readers, ask, threads=10)) == 1


def test_it_is_asked_for_again_when_that_may_have_changed(location: str, patient_options: dict[str, Any]) -> None:
    """After NEGATIVE_SECONDS, however long a value would have been fresh: and nothing is no old value to serve."""
    cache = TieredCache(location, {"OPTIONS": patient_options | {"NEGATIVE_SECONDS": 0.2}})
    shelves = Shelves()
    assert cache.get_or_set("lamp", lambda: shelves.one("lamp"), None) is None

    shelves.there["lamp"] = "a lamp"
    assert eventually(lambda: cache.get_or_set("lamp", lambda: shelves.one("lamp"), None) == "a lamp")
    assert len(shelves.asked) == 2


def test_it_is_there_at_once_when_somebody_says_so(cache: TieredCache) -> None:
    shelves = Shelves()
    assert cache.get_or_set("lamp", lambda: shelves.one("lamp")) is None

    shelves.there["lamp"] = "a lamp"
    cache.delete("lamp")

    assert cache.get_or_set("lamp", lambda: shelves.one("lamp")) == "a lamp"


def test_many_keys_some_of_which_are_not_there(cache: TieredCache) -> None:
    """Those without a value are left out, and not asked for again."""
    shelves = Shelves(a=1, c=None)

    for _ in range(10):
        assert cache.get_many_or_set(["a", "b", "c"], shelves.many) == {"a": 1}

    assert shelves.asked == ["a", "b", "c"]
    assert cache.get_or_set("b", lambda: "loaded") is None


# --- no keys at all


@pytest.fixture
def proxies(options: dict[str, Any], cache_redis: redis.Redis) -> Iterator[list[FaultProxy]]:
    """Before memcached and before Redis."""
    with (
        FaultProxy(options["MEMCACHED"][0]) as memcached,
        FaultProxy(cache_redis.connection_pool.connection_kwargs["path"]) as of_redis,
    ):
        yield [memcached, of_redis]


@pytest.fixture
def watched(location: str, patient_options: dict[str, Any], proxies: list[FaultProxy]) -> TieredCache:
    memcached, of_redis = proxies
    ways = {
        "MEMCACHED": [memcached.address],
        "REDIS": alias_of(f"unix://{of_redis.address}?db=0&socket_timeout=20"),
    }
    return TieredCache(location, {"OPTIONS": patient_options | ways})


def test_no_keys_make_no_trip(watched: TieredCache, proxies: list[FaultProxy]) -> None:
    shelves = Shelves()

    assert watched.get_many([]) == watched.get_many(iter([])) == {}
    assert watched.get_many_or_set([], shelves.many) == {}
    assert watched.set_many({}) == watched.set_many({}, 0) == watched.set_many({}, None) == []
    watched.delete_many([])
    watched.delete_many(iter([]))
    stack = watched.stack
    assert stack.redis.read([]) == stack.redis.acquire([], "token", 1, 1, {}) == {}
    assert stack.redis.fill("token", {}, {}) == set()
    stack.redis.release("token", [], 0)
    stack.redis.write({}, None, "message")
    assert stack.redis.invalidate([], "message") == 0
    assert stack.memcached.read([]) == {}
    stack.memcached.store({}, {})
    stack.memcached.bury([])
    assert stack.memcached.leased([], "token") == set()

    assert shelves.asked == []
    assert [(proxy.connections, proxy.bytes_up) for proxy in proxies] == [(0, 0), (0, 0)]


def test_some_keys_do(watched: TieredCache, proxies: list[FaultProxy]) -> None:
    """The proxies count."""
    watched.set_many({"key": "value"})

    assert all(proxy.bytes_up for proxy in proxies)
