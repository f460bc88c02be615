"""What no cache can hold, what others left in its tiers, and loaders that fail: told once, and nothing half done."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from resilience.cache import envelope
from resilience.cache.tiered import TieredCache
from resilience.clock import now_ms
from tests.crowd import at_once, eventually
from tests.resilience.cache.processes import processes

#: Readers of one key in one process.
CROWD = 12


def without_end() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def as_deep_as_can_be_written() -> list[Any]:
    """What can be written a few levels up may be too deep to be read a few levels down."""
    value: list[Any] = []
    for _ in range(990):
        value = [value]
    return value


NOT_FOR_JSON: list[Any] = [object(), {1, 2}, b"bytes", float("nan"), "\ud83c", 10**5_000, {(1, 2): 3}, without_end()]


@pytest.fixture
def memcached(options: dict[str, Any]) -> Iterator[Client]:
    """A connection of the test's own to the cache's memcached."""
    client = Client(options["MEMCACHED"][0])
    yield client
    client.close()


@pytest.fixture
def nothing_there(cache_redis: redis.Redis, memcached: Client, location: str) -> Callable[[], bool]:
    """Neither tier has an entry of the key or a lease."""

    def is_nothing_there() -> bool:
        in_redis = cache_redis.exists(f"{location}:entry:key", f"{location}:lease:key")
        in_memcached = memcached.get_many([f"{location}:key", f"{location}:lease:key"])
        return not in_redis and not any(in_memcached.values())

    return is_nothing_there


@pytest.mark.parametrize("value", NOT_FOR_JSON, ids=lambda value: type(value).__name__)
def test_what_json_cannot_hold_is_refused_and_nothing_is_written(
    cache: TieredCache, nothing_there: Callable[[], bool], value: Any
) -> None:
    """Also when the other values of the batch would have been good."""
    calls: list[Callable[[], object]] = [
        lambda: cache.set("key", value),
        lambda: cache.set_many({"key": "good", "other": value}),
        lambda: cache.add("key", value),
        lambda: cache.get_or_set("key", lambda: value),
        lambda: cache.get_many_or_set(["key", "other"], lambda keys: {"key": "good", "other": value}),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="a cache holds what JSON can"):
            call()
        assert nothing_there()
        assert cache.get("key", "nothing") == "nothing"

    assert cache.get_or_set("key", lambda: "loaded") == "loaded"


def test_what_is_there_stays_when_its_successor_cannot_be_held(cache: TieredCache) -> None:
    cache.set("key", "value")

    with pytest.raises(TypeError):
        cache.set("key", object())

    assert cache.get("key") == "value"


def test_no_lease_is_left_for_what_is_nested_too_deep(cache: TieredCache, nothing_there: Callable[[], bool]) -> None:
    """At each depth it is either kept or refused."""
    value = as_deep_as_can_be_written()
    for _ in range(40):
        value = value[0]
        try:
            cache.get_or_set("key", lambda value=value: value)
        except TypeError:
            assert nothing_there()
        cache.delete("key")


# --- what others left


def times_of(fresh_for_ms: int) -> bytes:
    return b"%013d%08d%06d" % (now_ms() + fresh_for_ms, 30_000, 0)


#: As if they were fresh for a minute, so that nothing but their form tells that they are no good.
DAMAGED = {
    "somebody else's": lambda: b"\x80\x04\x95pickled",
    "another version": lambda: b"2" + times_of(60_000) + b"00000000" + b'j"text"',
    "cut": lambda: envelope.pack("x" * 100, now_ms(), 60)[:90],
    "header only": lambda: envelope.pack("x", now_ms(), 60)[:37],
    "cut in its header": lambda: envelope.pack("x", now_ms(), 60)[:20],
    "two values": lambda: envelope.pack(1, now_ms(), 60) + b",2",
    "not compressed": lambda: b"1" + times_of(60_000) + b"00000000" + b'z"text"',
    "cut while compressed": lambda: envelope.pack("x" * 9_999, now_ms(), 60)[:-4],
    "other bytes": lambda: envelope.pack("text", now_ms(), 60)[:-3] + b"\xff\xfe\xfd",
    "no digits": lambda: b"1" + b"%013d" % (now_ms() + 60_000) + b"x" * 14 + b"00000000" + b'j"text"',
}


@pytest.fixture
def unreadable(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    caplog.set_level(logging.WARNING, "resilience.cache")
    return lambda: sum("cache key key:" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("form", DAMAGED)
@pytest.mark.parametrize("tier", ["memcached", "redis", "both"])
def test_a_damaged_entry_is_no_entry_and_is_overwritten(
    cache: TieredCache,
    cache_redis: redis.Redis,
    memcached: Client,
    location: str,
    unreadable: Callable[[], int],
    tier: str,
    form: str,
) -> None:
    damaged = DAMAGED[form]()
    if tier != "redis":
        memcached.set(f"{location}:key", damaged)
    if tier != "memcached":
        cache_redis.set(f"{location}:entry:key", damaged)

    assert cache.get("key", "nothing") == "nothing"
    assert cache.get_or_set("key", lambda: "loaded") == "loaded"

    assert cache.tally()["unreadable"] == 1
    assert unreadable() <= 1  # none when the log has said the same too often just now
    assert envelope.unpack(memcached.get(f"{location}:key")).value == "loaded"
    assert envelope.unpack(cache_redis.get(f"{location}:entry:key")).value == "loaded"
    assert not cache_redis.exists(f"{location}:lease:key")
    assert cache.stack.redis.guard.breaker.is_closed


def test_damaged_entries_of_a_batch_harm_no_other(
    cache: TieredCache, cache_redis: redis.Redis, memcached: Client, location: str
) -> None:
    """Together these are four JSON values for four keys, of which only the last is one."""
    bodies = {"one": b'1,"', "two": b"x", "three": b'",2', "good": b'"good"'}
    for name, body in bodies.items():
        entry = envelope.pack("good", now_ms(), 60)[: envelope.HEADER_BYTES] + body
        memcached.set(f"{location}:{name}", entry)
        cache_redis.set(f"{location}:entry:{name}", entry)

    assert cache.get_many(bodies) == {"good": "good"}
    assert cache.get_many_or_set(bodies, lambda keys: dict.fromkeys(keys, "loaded")) == {
        "one": "loaded",
        "two": "loaded",
        "three": "loaded",
        "good": "good",
    }


def test_a_key_of_another_kind_in_redis_is_overwritten(
    cache: TieredCache, cache_redis: redis.Redis, location: str
) -> None:
    """Redis answers with an error to whoever takes a list for a string; the others' tier is not given up for that."""
    names = [f"key:{number}" for number in range(5)]
    for name in names:
        cache_redis.rpush(f"{location}:entry:{name}", "a", "b")

    assert cache.get_or_set(names[0], lambda: "loaded") == "loaded"
    assert cache.add(names[1], "added") is True
    cache.set(names[2], "set")
    assert cache.delete(names[3]) is True
    assert cache.get_many(names) == {names[0]: "loaded", names[1]: "added", names[2]: "set"}
    assert cache.stack.redis.guard.breaker.is_closed


def test_while_somebody_loads_what_is_damaged_the_log_stays_quiet(
    cache: TieredCache,
    location: str,
    patient_options: dict[str, Any],
    cache_redis: redis.Redis,
    unreadable: Callable[[], int],
) -> None:
    """The others look again and again, and find the damaged entry each time."""
    cache_redis.set(f"{location}:entry:key", DAMAGED["cut"]())
    with processes(1, patient_options, location) as [reader]:
        reader.ask(load_when_told)
        eventually(lambda: cache_redis.exists(f"{location}:lease:key"))

        waiting = threading.Thread(target=cache.get_or_set, args=("key", lambda: "loaded here"))
        waiting.start()
        eventually(lambda: cache.tally()["waited"] >= 5)
        cache_redis.set(f"{location}:go", "now")
        waiting.join()
        reader.result()

    assert cache.get("key") == "loaded there"
    assert unreadable() <= cache.tally()["unreadable"] == 1


def load_when_told(cache: TieredCache, index: int) -> Any:
    def load() -> str:
        told = cache.stack.redis
        eventually(lambda: told._client.exists(f"{told._prefix}go"))
        return "loaded there"

    return cache.get_or_set("key", load)


# --- loaders that fail


class LoaderBroken(Exception):
    pass


def test_each_who_waits_hears_what_the_loader_raised(cache: TieredCache, nothing_there: Callable[[], bool]) -> None:
    """Once for all of them, and the next one who asks loads again."""
    cache.get("another key")
    assert cache.stack.bus.connected.wait(20)  # which outdates the flights that began before it
    calls: list[int] = []
    everybody_waits = threading.Event()

    def load() -> Any:
        calls.append(1)
        assert everybody_waits.wait(20)
        raise LoaderBroken("no such table")

    def read(_: int) -> str:
        try:
            return str(cache.get_or_set("key", load))
        except LoaderBroken as error:
            return repr(error)

    threading.Thread(target=lambda: (eventually(lambda: waiting_in(cache) == CROWD - 1), everybody_waits.set())).start()
    answers = at_once(range(CROWD), read)

    assert answers == [repr(LoaderBroken("no such table"))] * CROWD
    assert len(calls) == cache.tally()["errors"] == 1
    assert nothing_there()
    assert cache.get_or_set("key", lambda: "loaded") == "loaded"


def waiting_in(cache: TieredCache) -> int:
    """Readers that follow another one of this process."""
    return len(cache.stack.flights._changed._waiters)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error", [TimeoutError("the loader's own"), KeyError("key"), StopIteration(), redis.RedisError()]
)
def test_no_exception_of_a_loader_is_taken_for_one_of_the_cache(cache: TieredCache, error: Exception) -> None:
    def load() -> Any:
        raise error

    for _ in range(4):
        with pytest.raises(type(error)) as raised:
            cache.get_or_set("key", load)
        assert raised.value is error
    assert cache.stack.redis.guard.breaker.is_closed
    assert cache.get_or_set("key", lambda: "loaded") == "loaded"


def test_a_loader_of_many_that_fails_leaves_no_lease(
    cache: TieredCache, cache_redis: redis.Redis, location: str
) -> None:
    def load(keys: list[str]) -> dict[str, Any]:
        raise LoaderBroken

    with pytest.raises(LoaderBroken):
        cache.get_many_or_set(["a", "b", "c"], load)

    assert cache_redis.keys(f"{location}:*") == []
    assert cache.get_many_or_set(["a", "b"], lambda keys: dict.fromkeys(keys, 1)) == {"a": 1, "b": 1}


def fail(cache: TieredCache, index: int) -> str:
    def load() -> Any:
        raise LoaderBroken("there")

    try:
        return str(cache.get_or_set("key", load))
    except LoaderBroken as error:
        return repr(error)


def test_a_loader_that_fails_in_another_process_leaves_the_key_to_the_next(
    cache: TieredCache, location: str, patient_options: dict[str, Any], nothing_there: Callable[[], bool]
) -> None:
    with processes(1, patient_options, location) as [reader]:
        reader.ask(fail)
        assert reader.result() == [repr(LoaderBroken("there"))]

    assert nothing_there()
    assert cache.get_or_set("key", lambda: "loaded here") == "loaded here"
