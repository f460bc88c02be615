"""PostgreSQL is down, so that every load fails: old values serve, and hardly anybody asks."""

import time
from typing import Any

import redis
from django.conf import settings

from resilience.cache.tiered import TieredCache
from tests.crowd import eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Refuse
from tests.resilience.cache.own_servers import alias_of
from tests.resilience.cache.processes import ReaderProcess, all_at_once, processes

#: Seconds for which nobody tries again; readers ask about a hundred times meanwhile.
REST_SECONDS = 0.5
TIMES: dict[str, Any] = {"REST_SECONDS": REST_SECONDS, "SOFT_SECONDS": 0.02, "SOFT_STALE_SECONDS": 0.02}
#: Seconds that the value is fresh, and old.
FRESH, STALE = 0.1, 2.0


class DatabaseDown(Exception):
    pass


def at_most_at_rest(seconds: float) -> int:
    """Attempts in so long a time: one a rest, and one on each side."""
    return int(seconds / REST_SECONDS) + 2


def read_while(cache: TieredCache, index: int, attempts: str, until: float) -> list[Any]:
    """All different answers until then; "error" for an exception of the loader."""
    counter = redis.Redis.from_url(settings.STOCK_REDIS_URL)

    def load() -> Any:
        counter.incr(attempts)
        if counter.exists("database up"):
            return "new"
        raise DatabaseDown

    answers = []
    while time.time() < until:
        try:
            answers.append(cache.get_or_set("key", load, FRESH, stale_seconds=STALE))
        except DatabaseDown:
            answers.append("error")
        time.sleep(0.005)
    return list(dict.fromkeys(answers))


def load_old(cache: TieredCache, index: int) -> Any:
    return cache.get_or_set("key", lambda: "old", FRESH, stale_seconds=STALE)


def answers_for(readers: list[ReaderProcess], seconds: float) -> list[list[Any]]:
    return all_at_once(readers, read_while, "attempts", time.time() + 0.2 + seconds, threads=3)


def test_old_values_serve_while_loads_fail_and_one_a_rest_is_tried(
    location: str, patient_options: dict[str, Any], stock_redis: redis.Redis
) -> None:
    """Over all processes, not in each. When the time of the old value is over, its readers hear what is wrong; when
    the database is back, they have the new one."""
    with processes(3, patient_options | TIMES, location) as readers:
        loaded_at = time.time()
        readers[0].ask(load_old)
        assert readers[0].result() == ["old"]

        answers = answers_for(readers, 1.2)
        seconds = time.time() - loaded_at
        assert all(each == ["old"] for each in answers)
        assert 1 <= int(stock_redis.get("attempts")) <= at_most_at_rest(seconds)  # type: ignore[arg-type]

        eventually(lambda: any("error" in each for each in answers_for(readers, 0.1)))
        assert all(each == ["error"] for each in answers_for(readers, 0.1))

        stock_redis.set("database up", 1)
        eventually(lambda: all(each == ["new"] for each in answers_for(readers, 0.1)))


def test_a_database_that_comes_back_in_time_is_read_after_the_rest(
    location: str, patient_options: dict[str, Any], stock_redis: redis.Redis
) -> None:
    with processes(2, patient_options | TIMES, location) as readers:
        readers[0].ask(load_old)
        readers[0].result()
        assert all(each == ["old"] for each in answers_for(readers, 0.3))

        stock_redis.set("database up", 1)

        answers = answers_for(readers, 1.0)
        assert all(each[-1] == "new" and "error" not in each for each in answers)


def test_a_failed_refresh_is_counted_and_no_reader_hears_of_it(location: str, patient_options: dict[str, Any]) -> None:
    cache = TieredCache(location, {"OPTIONS": patient_options | TIMES})
    cache.get_or_set("key", lambda: "old", 0.01, stale_seconds=60)

    def fail() -> Any:
        raise DatabaseDown

    eventually(lambda: cache.get_or_set("key", fail, 0.01, stale_seconds=60) == "old" and cache.tally()["errors"])


def test_memory_serves_old_values_when_every_tier_is_gone_too(
    location: str, patient_options: dict[str, Any], cache_redis: redis.Redis
) -> None:
    with FaultProxy(cache_redis.connection_pool.connection_kwargs["path"]) as proxy:
        way = {"MEMCACHED": [], "REDIS": alias_of(f"unix://{proxy.address}?db=0")}
        cache = TieredCache(location, {"OPTIONS": patient_options | TIMES | way})
        cache.get("key")
        assert cache.stack.bus.connected.wait(20)
        cache.get_or_set("key", lambda: "old", 0.01, stale_seconds=60)

        proxy.fault = Refuse()
        proxy.drop_connections(reset=True)

        def fail() -> Any:
            raise DatabaseDown

        for failures in (1, 2):
            assert eventually(
                lambda failures=failures: (
                    cache.get_or_set("key", fail, 0.01, stale_seconds=60) == "old"
                    and cache.tally()["errors"] >= failures
                )
            )
