"""What Django's documentation promises of every cache backend, and programs take for granted."""

from typing import Any

import pytest

from resilience.cache.tiered import TieredCache
from tests.crowd import at_once, eventually
from tests.resilience.cache.processes import all_at_once, processes

#: Threads that change one key at the same moment.
CROWD = 40

#: Keys that memcached would refuse, or take for two words of its protocol.
ODD_KEYS = [
    "",
    "k" * 251,
    "k" * 5_000,
    "with blanks, and more",
    "two\r\nlines",
    "\x00\x07\x7f",
    "灯",
    "half a surrogate \ud83c",
    "{braces}:*[?]",
    17,
]


@pytest.fixture
def other(location: str, patient_options: dict[str, Any]) -> TieredCache:
    """The same cache without the first one's memory: as another process has it."""
    return TieredCache(location, {"OPTIONS": patient_options | {"MEMORY_ENTRIES": 10}})


@pytest.fixture(params=["all tiers", "no memcached"])
def each_cache(request: pytest.FixtureRequest, location: str, patient_options: dict[str, Any]) -> TieredCache:
    without = {"MEMCACHED": []} if request.param == "no memcached" else {}
    return TieredCache(location, {"OPTIONS": patient_options | without})


@pytest.mark.parametrize(
    "value", [0, -1.5, True, "", "text", "灯", [], [1, [2]], {}, {"a": {"b": None}}, "long" * 9_000]
)
def test_a_value_comes_back_from_every_tier_as_it_was(cache: TieredCache, other: TieredCache, value: Any) -> None:
    cache.set("key", value)

    assert cache.get("key") == value
    assert other.get("key") == value
    assert other.get_or_set("key", lambda: "loaded") == value


def test_what_is_not_there(each_cache: TieredCache) -> None:
    assert each_cache.get("key") is None
    assert each_cache.get("key", "default") == "default"
    assert not each_cache.has_key("key")
    assert "key" not in each_cache
    assert each_cache.delete("key") is False
    assert each_cache.touch("key") is False
    with pytest.raises(ValueError, match="key"):
        each_cache.incr("key")
    with pytest.raises(ValueError, match="key"):
        each_cache.decr("key")
    with pytest.raises(ValueError, match="key"):
        each_cache.incr_version("key")


def test_set_delete_and_set_again(each_cache: TieredCache) -> None:
    each_cache.set("key", "first")
    assert each_cache.has_key("key")
    assert "key" in each_cache

    assert each_cache.delete("key") is True
    assert each_cache.get("key") is None

    each_cache.set("key", "second")
    each_cache.set("key", "third")
    assert each_cache.get("key") == "third"


def test_none_is_a_value_unlike_a_missing_one(cache: TieredCache, other: TieredCache) -> None:
    cache.set("key", None)

    for each in (cache, other):
        assert each.get("key", "default") is None
        assert "key" in each
        assert each.get_many(["key", "missing"]) == {"key": None}
        assert each.add("key", "value") is False
        assert each.get_or_set("key", lambda: "loaded") is None


def test_add_stores_only_what_is_not_there(cache: TieredCache, other: TieredCache) -> None:
    assert cache.add("key", "first") is True

    assert other.add("key", "second") is False
    assert cache.add("key", "third") is False
    assert other.get("key") == "first"


def test_numbers_go_up_and_down_for_everybody(cache: TieredCache, other: TieredCache) -> None:
    cache.set("key", 41)

    assert other.incr("key") == 42
    assert other.incr("key", 10) == 52
    assert eventually(lambda: cache.get("key") == 52)
    assert cache.decr("key") == 51
    assert cache.decr("key", 60) == -9
    assert cache.incr("key", -1) == -10


def test_of_a_crowd_that_adds_one_does(cache: TieredCache) -> None:
    added = at_once(range(CROWD), lambda number: cache.add("key", number))

    assert added.count(True) == 1
    assert cache.get("key") == added.index(True)


def test_a_crowd_that_counts_loses_no_count(cache: TieredCache) -> None:
    cache.set("key", 0)

    counts = at_once(range(CROWD), lambda _: cache.incr("key"))

    assert sorted(counts) == list(range(1, CROWD + 1))
    assert cache.get("key") == CROWD


def count_and_add(cache: TieredCache, index: int) -> bool:
    cache.incr("counter")
    return cache.add("key", index)


def test_add_and_incr_are_atomic_between_processes(cache: TieredCache, location: str, patient_options: Any) -> None:
    cache.set("counter", 0)

    with processes(2, patient_options, location) as readers:
        added = all_at_once(readers, count_and_add, threads=20)

    assert added.count(True) == 1
    assert eventually(lambda: cache.get("counter") == 40)


def test_touch_changes_how_long_a_value_stays(cache: TieredCache, other: TieredCache) -> None:
    cache.set("as long", "value", 0.2)
    cache.set("longer", "value", 0.2)
    cache.set("shorter", "value", 60)

    assert other.touch("longer", 60) is True
    assert other.touch("shorter", 0.05) is True

    eventually(lambda: other.get("as long") is None and cache.get("shorter") is None)
    assert cache.get("longer") == other.get("longer") == "value"
    assert cache.touch("longer", 0) is True
    assert eventually(lambda: other.get("longer") is None)


def test_many_at_once(each_cache: TieredCache) -> None:
    assert each_cache.set_many({"a": 1, "b": 2, "c": 3}) == []
    assert each_cache.get_many(["a", "b", "missing"]) == {"a": 1, "b": 2}
    assert each_cache.get_many(key for key in ["b", "c", "b"]) == {"b": 2, "c": 3}

    each_cache.delete_many(key for key in ["a", "missing"])
    assert each_cache.get_many(["a", "b", "c"]) == {"b": 2, "c": 3}

    each_cache.set_many({"b": 1, "c": 1}, timeout=0)
    assert each_cache.get_many(["a", "b", "c"]) == {}


def test_clear_leaves_nothing_to_anybody(cache: TieredCache, other: TieredCache) -> None:
    cache.set_many({"a": 1, "b": 2})
    assert other.get("a") == 1

    cache.clear()

    assert cache.get_many(["a", "b"]) == {}
    assert eventually(lambda: other.get_many(["a", "b"]) == {})


def test_get_or_set_takes_values_and_callables(cache: TieredCache) -> None:
    assert cache.get_or_set("value", "plain") == "plain"
    assert cache.get_or_set("callable", lambda: "loaded") == "loaded"

    assert cache.get_or_set("value", "other") == "plain"
    assert cache.get("callable") == "loaded"
    with pytest.raises(TypeError):
        cache.get_or_set("neither")  # type: ignore[call-arg]


@pytest.mark.parametrize("timeout", [0, -1, -100_000])
def test_a_timeout_that_is_over_keeps_nothing(cache: TieredCache, other: TieredCache, timeout: float) -> None:
    cache.set("key", "before")
    cache.set("key", "value", timeout)
    for each in (cache, other):
        assert each.get("key") is None

    assert cache.add("key", "value", timeout) is True
    assert cache.add("key", "next", timeout) is True

    loads = [cache.get_or_set("loaded", lambda number=number: number, timeout) for number in range(5)]
    assert loads == list(range(5))
    assert cache.get_or_set("nothing", lambda: None, timeout) is None
    assert cache.get_or_set("nothing", lambda: "something", timeout) == "something"


@pytest.mark.parametrize("timeout", [None, 60, 31 * 86_400, 10**13])
def test_long_timeouts_keep_their_values(cache: TieredCache, other: TieredCache, timeout: float | None) -> None:
    cache.set("set", 1, timeout)
    cache.add("added", 1, timeout)
    cache.get_or_set("loaded", lambda: 1, timeout)
    cache.set("counted", 0, timeout)
    cache.incr("counted")

    keys = ["set", "added", "loaded", "counted"]
    assert cache.get_many(keys) == other.get_many(keys) == dict.fromkeys(keys, 1)


def test_incr_leaves_the_time_to_live_alone(cache: TieredCache, cache_redis: Any, location: str) -> None:
    """Also one that is longer than the day or so that a header tells of."""
    for key, timeout in {"short": 60, "long": 31 * 86_400, "always": None}.items():
        cache.set(key, 1, timeout)
        cache.incr(key)

    assert 58 <= cache_redis.ttl(f"{location}:entry:short") <= 60
    assert 31 * 86_400 - 2 <= cache_redis.ttl(f"{location}:entry:long") <= 31 * 86_400
    assert cache_redis.ttl(f"{location}:entry:always") == -1


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_keys(each_cache: TieredCache, key: Any) -> None:
    each_cache.set(key, "value")
    assert each_cache.get(key) == "value"
    assert each_cache.get_or_set(key, lambda: "loaded") == "value"
    assert each_cache.delete(key) is True

    assert each_cache.get_or_set(key, lambda: "loaded") == "loaded"
    assert each_cache.get_many([key]) == {key: "loaded"}
    assert each_cache.get_many_or_set([key], lambda keys: {}) == {key: "loaded"}
    each_cache.delete_many([key])

    assert each_cache.add(key, 1) is True
    assert each_cache.incr(key) == 2
    assert each_cache.has_key(key)
    assert each_cache.stack.redis.guard.breaker.is_closed


def test_keys_that_only_their_ends_tell_apart(cache: TieredCache, other: TieredCache) -> None:
    keys = [f"{'k' * 300}{number}" for number in range(20)]

    cache.set_many({key: key[300:] for key in keys})

    assert other.get_many(keys) == {key: key[300:] for key in keys}


def test_versions_of_a_key_know_nothing_of_each_other(cache: TieredCache) -> None:
    cache.set("key", "first")
    cache.set("key", "second", version=2)

    assert cache.get("key", version=1) == "first"
    assert cache.get("key", version=2) == "second"
    assert cache.get_or_set("key", lambda: "third", version=3) == "third"
    assert cache.get_many(["key"], version=2) == {"key": "second"}
    cache.delete("key", version=1)
    assert cache.get("key") is None
    assert cache.has_key("key", version=2)


def test_a_cache_of_another_version_sees_the_same_keys_by_number(
    cache: TieredCache, location: str, patient_options: dict[str, Any]
) -> None:
    second = TieredCache(location, {"OPTIONS": patient_options, "VERSION": 2})

    second.set("key", "second")

    assert cache.get("key") is None
    assert cache.get_or_set("key", lambda: "first") == "first"
    assert second.get_or_set("key", lambda: "loaded") == "second"
    assert cache.get("key", version=2) == "second"
    assert second.get("key", version=1) == "first"


def test_a_value_moves_from_version_to_version(cache: TieredCache) -> None:
    cache.set("key", "value")

    assert cache.incr_version("key") == 2
    assert cache.get("key") is None
    assert cache.get("key", version=2) == "value"

    assert cache.decr_version("key", version=2) == 1
    assert cache.get("key") == "value"
    assert cache.get("key", version=2) is None


def test_prefixes_and_locations_divide_caches(location: str, patient_options: dict[str, Any]) -> None:
    one = TieredCache(location, {"OPTIONS": patient_options, "KEY_PREFIX": "one"})
    two = TieredCache(location, {"OPTIONS": patient_options, "KEY_PREFIX": "two"})

    one.set("key", 1)
    assert two.get("key") is None
    two.set("key", 2)
    assert one.get("key") == 1

    one.delete("key")
    assert two.get("key") == 2


def test_a_value_is_changed_in_the_cache_alone(cache: TieredCache) -> None:
    """What the caller does to its own list afterwards is no business of other readers."""
    value = ["a"]
    cache.set("key", value)
    value.append("b")

    assert cache.get("key") == ["a"]


def test_closing_at_the_end_of_a_request_keeps_the_connections(cache: TieredCache) -> None:
    """Django closes all caches after each request: connecting anew would cost more than the cache saves."""
    cache.set("key", "value")
    pool = cache.stack.memcached._nodes[next(iter(cache.stack.memcached._nodes))]._pool.client_pool

    connected = [*pool._free_objs]
    cache.close()
    cache.set("key", "again")

    assert [*pool._free_objs] == connected


def read(cache: TieredCache, index: int) -> Any:
    return cache.get("key")


def write(cache: TieredCache, index: int, value: Any) -> None:
    cache.set("key", value)


def test_two_processes_see_each_other(cache: TieredCache, location: str, patient_options: dict[str, Any]) -> None:
    with processes(2, patient_options | {"SOFT_SECONDS": 60.0}, location) as readers:
        cache.set("key", "from here")
        assert all_at_once(readers, read, threads=1) == ["from here"] * 2

        readers[0].ask(write, "from there")
        readers[0].result()
        assert cache.get("key") in ("from here", "from there")  # from memory, until the bus has told
        assert eventually(lambda: cache.get("key") == "from there")
