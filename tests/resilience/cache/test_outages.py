"""A shared tier dies, comes back empty, hangs and goes on, while readers of several processes never stop."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.conf import settings

from resilience.cache.away import TierAway
from resilience.cache.memcached_tier import POOL_SIZE, MemcachedTier
from resilience.cache.tiered import TieredCache
from shop.local.servers import Running
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.resilience.cache.own_servers import OwnServer
from tests.resilience.cache.processes import ReaderProcess, processes
from tests.resilience.cache.test_stampede import count_loads, loads

PROCESSES, THREADS = 4, 3
HOT_KEYS = [f"hot:{number}" for number in range(4)]
FRESH_SECONDS = 0.6
#: Without chance in the times, a load begins no sooner than this after the end of the one before.
PERIOD_SECONDS = 0.8 * FRESH_SECONDS
OPTIONS = {"JITTER": 0.0, "DUE_FROM": 0.8, "DUE_TO": 0.8, "SOFT_SECONDS": 0.1, "LEASE_SECONDS": 2.0}
#: Seconds for which all processes read the same cold key.
COLD_SECONDS = 0.5
#: Seconds between two rounds of a reader: two cores are to load too.
ROUND_SECONDS = 0.005


def read_until_told(cache: TieredCache, _index: int, counter: str) -> list[str]:
    """What went wrong."""
    wrong = []
    with redis.Redis.from_url(settings.STOCK_REDIS_URL) as stock_redis:
        while not stock_redis.exists("stop"):
            for key in (*HOT_KEYS, f"cold:{int(time.time() / COLD_SECONDS)}"):
                try:
                    value = read(cache, key, counter)
                except Exception as error:
                    wrong.append(f"{key}: {error!r}")
                else:
                    wrong += [] if value == key else [f"{key} is {value}"]
            time.sleep(ROUND_SECONDS)
    return wrong


def read(cache: TieredCache, key: str, counter: str) -> str:
    def load() -> str:
        count_loads(counter, [key])
        time.sleep(0.02)
        return key

    return str(cache.get_or_set(key, load, FRESH_SECONDS if key in HOT_KEYS else 60))


class Watched:
    """Readers that read until they are told to stop, and how often they have loaded each key."""

    def __init__(self, readers: list[ReaderProcess], stock_redis: redis.Redis) -> None:
        self._readers, self._stock_redis = readers, stock_redis
        self._started = time.monotonic()
        for each in readers:
            each.ask(read_until_told, "loads", threads=THREADS)

    def go_on(self) -> None:
        """Until each hot key has been loaded once more."""
        before = self._loads()
        eventually(lambda: all(self._loads()[key] > before[key] for key in HOT_KEYS))

    def _loads(self) -> Counter[str]:
        return loads(self._stock_redis, "loads")

    def stop(self) -> tuple[list[str], Counter[str], float]:
        """What went wrong, the loads of each key, and the periods that it took."""
        self._stock_redis.set("stop", 1)
        wrong = [each for reader in self._readers for answer in reader.result() for each in answer]
        return wrong, self._loads(), (time.monotonic() - self._started) / PERIOD_SECONDS


def live_through_everything(readers: Watched, server: OwnServer) -> None:
    readers.go_on()
    server.kill()
    readers.go_on()
    server.start()
    readers.go_on()
    eventually(server.has_entries)
    server.freeze()
    readers.go_on()
    server.thaw()
    readers.go_on()


def test_memcached_may_die_come_back_empty_and_hang(
    servers: Running, location, patient_options, stock_redis: redis.Redis
) -> None:
    """Redis keeps the leases: not one load more than with memcached."""
    with OwnServer(servers, "memcached").running() as memcached:
        own = {"MEMCACHED": [str(memcached.socket)], "MEMCACHED_TIMEOUT_SECONDS": 0.05}
        with processes(PROCESSES, patient_options | OPTIONS | own, location) as readers:
            watched = Watched(readers, stock_redis)
            live_through_everything(watched, memcached)
            wrong, loaded, periods = watched.stop()
            eventually(lambda: one_gets_what_another_gave(readers, "memcached"))

    assert wrong == []
    assert all(times <= periods + 1 for times in loaded.values())
    assert all(times == 1 for key, times in loaded.items() if key not in HOT_KEYS)


#: Where a lease may be while Redis goes and comes.
LEASE_PLACES = 3


def test_redis_may_die_come_back_empty_and_hang(
    servers: Running, location, patient_options, stock_redis: redis.Redis
) -> None:
    """While some processes know already that it is away, or back, and others do not, there are leases in three places:
    the Redis that died, memcached, and the Redis that came back. Three of the four may load; never all of them."""
    with OwnServer(servers, "redis-cache").running() as cache_redis:
        own = {"REDIS": f"{cache_redis.url}&socket_timeout=0.2"}
        with processes(PROCESSES, patient_options | OPTIONS | own, location) as readers:
            watched = Watched(readers, stock_redis)
            live_through_everything(watched, cache_redis)
            wrong, loaded, periods = watched.stop()
            eventually(lambda: one_gets_what_another_gave(readers, "redis"))

    assert wrong == []
    assert all(times <= LEASE_PLACES * (periods + 1) for times in loaded.values())
    assert all(times <= LEASE_PLACES for key, times in loaded.items() if key not in HOT_KEYS)


def one_gets_what_another_gave(readers: list[ReaderProcess], tier: str) -> bool:
    """By that tier."""
    key = f"given:{time.monotonic()}"
    readers[0].ask(give, tier, key)
    readers[0].result()
    readers[1].ask(take, tier, key)
    return readers[1].result() == [True]


def give(cache: TieredCache, _index: int, tier: str, key: str) -> None:
    """What is written is in Redis, and in memcached not before somebody has read it."""
    if tier == "redis":
        cache.set(key, "given")
    else:
        cache.get_or_set(key, "given")


def take(cache: TieredCache, _index: int, tier: str, key: str) -> bool:
    hits = cache.tally()[tier]
    return cache.get(key) == "given" and cache.tally()[tier] == hits + 1


def test_a_memcached_that_was_started_anew_fails_one_reader_not_one_for_each_old_connection(servers: Running) -> None:
    """Each would be the one trial of a breaker's rest: with twenty, memcached would be left alone for twenty more."""
    with OwnServer(servers, "memcached").running() as memcached:
        tier = MemcachedTier([str(memcached.socket)], "test:", PATIENCE_SECONDS)
        memcached.freeze()
        with ThreadPoolExecutor(20) as pool:
            reads = [pool.submit(tier.read, ["key"]) for _ in range(20)]
            eventually(lambda: connections(tier) == 20)
            memcached.thaw()
        assert [each.result() for each in reads] == [{}] * 20

        memcached.kill()
        memcached.start()

        with pytest.raises(TierAway):
            tier.read(["key"])
        assert tier.read(["key"]) == {}


def connections(tier: MemcachedTier) -> int:
    [node] = tier._nodes.values()
    return len(node._pool.client_pool.used)


def test_more_readers_than_connections_find_nothing_and_no_error(servers: Running) -> None:
    with OwnServer(servers, "memcached").running() as memcached:
        tier = MemcachedTier([str(memcached.socket)], "test:", timeout_seconds=1.0)
        memcached.freeze()

        def is_away(_: int) -> bool:
            try:
                tier.read(["key"])
            except TierAway:
                return True
            return False

        assert all(at_once(range(POOL_SIZE + 20), is_away))
