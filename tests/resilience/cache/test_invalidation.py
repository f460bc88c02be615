"""What is written or invalidated is soon known to everybody, and nothing older comes back."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from resilience.cache import envelope, stack
from resilience.cache.tiered import TieredCache
from tests.crowd import eventually
from tests.faults.fault_proxy import FaultProxy
from tests.resilience.cache.own_servers import alias_of
from tests.resilience.cache.processes import all_at_once, processes

#: Only the bus can make a memory forget within a test.
LONG_SOFT: dict[str, Any] = {"SOFT_SECONDS": 600.0}
#: What ends by itself, does so within a test.
SHORT_SOFT: dict[str, Any] = {"SOFT_SECONDS": 0.3}
#: A socket at which nobody listens.
NOWHERE = "/nowhere/at.sock"


def read(cache: TieredCache, index: int) -> Any:
    return cache.get("key")


def write(cache: TieredCache, index: int, value: Any) -> None:
    cache.set("key", value)


def invalidate(cache: TieredCache, index: int) -> bool:
    return cache.delete("key")


def listens(cache: TieredCache, index: int) -> bool:
    """Whether it hears the bus; a read makes it begin."""
    cache.get("some key")
    return cache.stack.bus.connected.wait(20)


def tell(cache: TieredCache, word: str) -> None:
    """Between processes, by way of Redis."""
    cache.stack.redis._client.set(f"{cache.stack.redis._prefix}{word}", "said", px=60_000)


def wait_for(cache: TieredCache, word: str) -> None:
    eventually(lambda: cache.stack.redis._client.exists(f"{cache.stack.redis._prefix}{word}"))


def load_old(cache: TieredCache, index: int) -> Any:
    """The loader has read the old row, and is slow to say so."""

    def load() -> str:
        tell(cache, "loading")
        wait_for(cache, "invalidated")
        return "old"

    return cache.get_or_set("key", load)


@pytest.fixture
def in_shared_tiers(cache_redis: redis.Redis, location: str, options: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """What memcached and Redis have of the key: values."""
    client = Client(options["MEMCACHED"][0])

    def look() -> list[Any]:
        found = [client.get(f"{location}:key"), cache_redis.get(f"{location}:entry:key")]
        return [envelope.unpack(data).value for data in found if data]

    yield look
    client.close()


def test_a_slow_loader_here_stores_nothing_old(
    cache: TieredCache, location: str, patient_options: dict[str, Any], in_shared_tiers: Callable[[], Any]
) -> None:
    """Invalidated by this process, by another one, or overwritten, while it loads."""
    with processes(1, patient_options, location) as [reader]:
        for change in (
            lambda: cache.delete("key"),
            lambda: (reader.ask(invalidate), reader.result()),
            lambda: cache.clear(),
        ):
            loaded: list[Any] = []

            loading = threading.Thread(target=lambda loaded=loaded: loaded.append(load_old(cache, 0)))
            loading.start()
            wait_for(cache, "loading")
            change()
            tell(cache, "invalidated")
            loading.join()

            assert loaded == ["old"]  # for who asked before
            assert in_shared_tiers() == []
            assert cache.get("key") is None
            reader.ask(read)
            assert reader.result() == [None]
            assert cache.tally()["fenced"] >= 1
            assert cache.get_or_set("key", lambda: "new") == "new"
            cache.clear()


def test_a_slow_loader_in_another_process_stores_nothing_old(
    cache: TieredCache, location: str, patient_options: dict[str, Any], in_shared_tiers: Callable[[], Any]
) -> None:
    with processes(2, patient_options | LONG_SOFT, location) as [loader, other]:
        loader.ask(load_old)
        wait_for(cache, "loading")
        cache.delete("key")
        assert cache.get_or_set("key", lambda: "new") == "new"
        tell(cache, "invalidated")

        assert loader.result() == ["old"]
        assert set(in_shared_tiers()) == {"new"}
        assert all_at_once([loader, other], read, threads=1) == ["new", "new"]
        assert cache.get("key") == "new"


def test_a_write_while_somebody_loads_wins(
    cache: TieredCache, location: str, patient_options: dict[str, Any], in_shared_tiers: Callable[[], Any]
) -> None:
    with processes(1, patient_options | LONG_SOFT, location) as [loader]:
        loader.ask(load_old)
        wait_for(cache, "loading")
        cache.set("key", "new")
        tell(cache, "invalidated")
        loader.result()

        assert set(in_shared_tiers()) == {"new"}
        assert all_at_once([loader], read, threads=1) == ["new"]


def test_a_reader_that_comes_after_an_invalidation_does_not_get_what_is_loaded_since_before(
    cache: TieredCache,
) -> None:
    loading = threading.Thread(target=load_old, args=(cache, 0))
    loading.start()
    wait_for(cache, "loading")

    cache.delete("key")
    assert cache.get_or_set("key", lambda: "new") == "new"

    tell(cache, "invalidated")
    loading.join()
    assert cache.get_or_set("key", lambda: "newer") == "new"


# --- the bus


def test_a_write_is_heard_in_every_process(cache: TieredCache, location: str, patient_options: dict[str, Any]) -> None:
    """Their memories would answer alone for ten minutes."""
    with processes(2, patient_options | LONG_SOFT, location) as readers:
        all_at_once(readers, listens, threads=1)
        cache.set("key", "first")
        assert all_at_once(readers, read, threads=1) == ["first"] * 2

        cache.set("key", "second")
        eventually(lambda: all_at_once(readers, read, threads=1) == ["second"] * 2)

        cache.incr_version("key")
        eventually(lambda: all_at_once(readers, read, threads=1) == [None] * 2)


def write_often(cache: TieredCache, index: int) -> None:
    for number in range(50):
        cache.set("key", [index, number])


def test_after_a_race_of_writers_everybody_has_what_redis_has(
    cache: TieredCache, location: str, patient_options: dict[str, Any]
) -> None:
    with processes(2, patient_options | LONG_SOFT, location) as readers:
        all_at_once(readers, listens, threads=1)
        for _ in range(3):
            all_at_once(readers, write_often, threads=4)

            eventually(lambda: all_at_once(readers, read, threads=1) == [cache.get("key")] * 2, seconds=5)
            cache.stack.forget_all()


def test_what_others_say_on_the_channel_is_no_reason_to_stop_listening(
    location: str, patient_options: dict[str, Any], cache_redis: redis.Redis
) -> None:
    cache = TieredCache(location, {"OPTIONS": patient_options | LONG_SOFT})
    assert listens(cache, 0)
    for message in (b"\xff", b"5", b"[1]", b'["x", 5]', b'["x", [[1]]]', b'{"a": 1, "b": 2}', b'["x", {"key": 1}]'):
        cache_redis.publish(f"{location}:invalidated", message)
    eventually(lambda: cache_redis.pubsub_numsub(f"{location}:invalidated")[0][1] == 1)

    cache.set("key", "first")
    eventually(lambda: not is_kept_after_telling(cache, cache_redis, location))


def is_kept_after_telling(cache: TieredCache, cache_redis: redis.Redis, location: str) -> bool:
    cache_redis.publish(f"{location}:invalidated", b'["somebody", ["key"]]')
    return cache.stack.memory.find("key") is not None


# --- without the bus


def test_a_process_that_was_cut_off_forgets_everything_when_it_hears_again(
    cache: TieredCache, location: str, patient_options: dict[str, Any], cache_redis: redis.Redis
) -> None:
    """Whoever is disconnected misses what is said meanwhile, and cannot know what that was."""
    with processes(2, patient_options | LONG_SOFT, location) as readers:
        all_at_once(readers, listens, threads=1)
        for number in range(2):
            cache.set("key", number)
            eventually(lambda number=number: all_at_once(readers, read, threads=1) == [number] * 2)

            cache_redis.client_kill_filter(_type="pubsub")
            cache.set("key", "unheard")

            eventually(lambda: all_at_once(readers, read, threads=1) == ["unheard"] * 2)


def test_a_confirmed_subscription_clears_the_memory_each_time(
    location: str, patient_options: dict[str, Any], cache_redis: redis.Redis
) -> None:
    cache = TieredCache(location, {"OPTIONS": patient_options | LONG_SOFT})
    assert listens(cache, 0)
    for number in range(3):
        cache.set(f"key:{number}", "value")
        assert cache.stack.memory.find(f"key:{number}")

        cache_redis.client_kill_filter(_type="pubsub")

        eventually(lambda: len(cache.stack.memory) == 0)


def test_without_the_bus_a_memory_is_one_soft_expiry_behind(
    cache: TieredCache, location: str, patient_options: dict[str, Any], cache_redis: redis.Redis
) -> None:
    """It listens, and nothing arrives: another channel plays a network that swallows."""
    deaf = TieredCache(location, {"OPTIONS": patient_options | SHORT_SOFT})
    deaf.stack.redis.channel = f"{location}:nobody speaks here"
    assert listens(deaf, 0)
    cache.set("key", "first")
    assert deaf.get("key") == "first"

    cache.set("key", "second")
    assert eventually(lambda: deaf.get("key") == "second")


# --- tiers that refuse


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was handed on to be invalidated later."""
    handed: list[list[str]] = []
    monkeypatch.setattr(stack.callables, "invalidate_later", lambda names: handed.append(list(names)))
    return handed


def test_memory_keeps_nothing_old_when_no_tier_is_there_to_refuse_it(
    location: str, options: dict[str, Any], later: list[list[str]]
) -> None:
    nowhere = {"MEMCACHED": [NOWHERE], "REDIS": alias_of(f"unix://{NOWHERE}?db=0")}
    cache = TieredCache(location, {"OPTIONS": options | nowhere | LONG_SOFT})

    def load() -> str:
        cache.delete("key")  # by whoever changes the row after this loader has read it
        return "old"

    assert cache.get_or_set("key", load) == "old"

    assert later == [["key"]]
    assert cache.get_or_set("key", lambda: "new") == "new"


@pytest.mark.parametrize("away", ["memcached", "redis", "both"])
def test_what_a_tier_refuses_is_handed_on_and_nothing_raises(
    location: str, options: dict[str, Any], later: list[list[str]], away: str
) -> None:
    nobody: dict[str, Any] = {
        "memcached": {"MEMCACHED": [NOWHERE]},
        "redis": {"REDIS": alias_of(f"unix://{NOWHERE}?db=0")},
    }
    chosen = nobody.get(away) or nobody["memcached"] | nobody["redis"]
    cache = TieredCache(location, {"OPTIONS": options | chosen})
    cache.set("key", "value")
    assert cache.get("key") == "value"
    later.clear()

    cache.delete("key")
    assert later == [["key"]]
    assert cache.get("key") is None

    cache.delete_many(["a", "b"])
    assert later == [["key"], ["a", "b"]]
    cache.clear()
    assert cache.get_or_set("key", lambda: "loaded") == "loaded"


def test_a_memcached_that_is_away_keeps_no_invalidation_from_the_other_processes(
    cache: TieredCache, location: str, patient_options: dict[str, Any], later: list[list[str]]
) -> None:
    """Redis forgets at once and tells everybody."""
    without = patient_options | LONG_SOFT | {"MEMCACHED": [NOWHERE]}
    with processes(1, without, location) as readers:
        all_at_once(readers, listens, threads=1)
        here = TieredCache(location, {"OPTIONS": without})
        for forget in (lambda: here.delete("key"), here.clear):
            here.set("key", "value")
            assert eventually(lambda: all_at_once(readers, read, threads=1) == ["value"])

            forget()

            eventually(lambda: all_at_once(readers, read, threads=1) == [None])


def test_both_tiers_taking_it_hands_nothing_on(cache: TieredCache, later: list[list[str]]) -> None:
    cache.set("key", "value")
    cache.delete("key")
    cache.delete_many(["key", "other"])
    cache.clear()

    assert later == []


def test_a_redis_that_hangs_for_once_is_told_in_the_second_attempt(
    location: str, options: dict[str, Any], later: list[list[str]], cache_redis: redis.Redis
) -> None:
    socket = cache_redis.connection_pool.connection_kwargs["path"]
    with FaultProxy(socket) as proxy:
        cache = TieredCache(location, {"OPTIONS": options | {"REDIS": alias_of(f"unix://{proxy.address}?db=0")}})
        cache.set("key", "value")
        proxy.drop_connections(reset=True)

        assert cache.delete("key") is True

    assert later == []
    assert cache_redis.exists(f"{location}:entry:key") == 0
