"""Rate limits: how many pass, what is said to the others, and what is left of it when Redis is away."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import pytest
import redis
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from resilience.rate_limit import Limit, RateLimiter, _Memory
from tests.crowd import at_once, eventually

#: Long enough that nothing is paid back during a test.
AN_HOUR_SECONDS = 3600.0
PREFIX = "rate-test:"
#: Threads that ask at the same moment.
CALLERS = 12
#: What sixty additions of seconds may be wrong by.
ROUNDING = 1e-6

_keys = itertools.count(1)


@pytest.fixture(autouse=True)
def no_counts(cache_redis: redis.Redis) -> None:
    for key in cache_redis.scan_iter(f"{PREFIX}*"):
        cache_redis.delete(key)


@pytest.fixture
def cache_redis() -> redis.Redis:
    return redis.Redis.from_url(settings.CACHE_REDIS_URL)


def limiter(processes: int = 1, keys_maximum: int = 1_000) -> RateLimiter:
    """As another process would have it: its memory is its own, Redis everybody's."""
    return RateLimiter("redis", processes=processes, prefix=PREFIX, keys_maximum=keys_maximum)


def commands(client: redis.Redis) -> int:
    """Scripts that Redis was asked to run."""
    counted = client.info("commandstats")
    return sum(counted.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


def admitted(limiter: RateLimiter, limit: Limit, tries: int, key: str = "key") -> int:
    return sum(not limiter.retry_after((limit, key)) for _ in range(tries))


def test_a_million_strangers_are_as_many_keys_as_may_be() -> None:
    """Each comes once; memory never has more than it may, and a newcomer is admitted by it."""
    memory, once = _Memory(10_000), Limit("once", AN_HOUR_SECONDS, 1)

    most = 0
    for number in range(1_000_000):
        assert memory.admit({str(number): once}) == 0.0
        most = max(most, len(memory))

    assert most <= 10_000


def test_a_burst_passes_and_the_next_one_waits() -> None:
    """Five at once; the sixth hears how long it takes until one is paid back, and another key is not concerned."""
    tight, mine = Limit("tight", AN_HOUR_SECONDS, 5), limiter()

    assert admitted(mine, tight, 5) == 5
    assert AN_HOUR_SECONDS - 60 < mine.retry_after((tight, "key")) <= AN_HOUR_SECONDS
    assert mine.retry_after((tight, "another")) == 0.0


def test_who_waits_as_told_passes() -> None:
    """The refusal's number is the truth, and a burst comes back one at a time."""
    quick, mine = Limit("quick", 0.05, 1), limiter()

    assert mine.retry_after((quick, "key")) == 0.0
    assert 0 < mine.retry_after((quick, "key")) <= 0.05
    eventually(lambda: not mine.retry_after((quick, "key")))


def test_all_processes_share_a_limit(cache_redis: redis.Redis) -> None:
    """Twelve threads of three processes ask together: as many pass as the limit says, no more and no fewer."""
    limit, three = Limit("shared", AN_HOUR_SECONDS, 10), [limiter(3) for _ in range(3)]

    passed = at_once(three * 4, lambda mine: admitted(mine, limit, 20))

    assert sum(passed) == 10
    [key] = cache_redis.keys(f"{PREFIX}*")
    assert 0 < cache_redis.pttl(key) <= 10 * AN_HOUR_SECONDS * 1000


def test_a_refusal_is_remembered_without_a_trip(cache_redis: redis.Redis) -> None:
    """Whom Redis refused once is refused here: a hundred more tries cost it nothing."""
    limit, first, second = Limit("told", AN_HOUR_SECONDS, 3), limiter(2), limiter(2)
    assert admitted(first, limit, 3) == 3
    assert second.retry_after((limit, "key")) > 0
    asked = commands(cache_redis)

    assert admitted(second, limit, 100) == admitted(first, limit, 100) == 0

    assert commands(cache_redis) == asked


def test_two_limits_are_one_trip_and_count_together_or_not_at_all(cache_redis: redis.Redis) -> None:
    """A buyer whose own limit refuses does not use up the address: the household may go on."""
    buyer, address = Limit("buyer", AN_HOUR_SECONDS, 1), Limit("address", AN_HOUR_SECONDS, 2)
    assert limiter().retry_after((buyer, "17"), (address, "203.0.113.9")) == 0.0
    asked = commands(cache_redis)

    assert limiter().retry_after((buyer, "17"), (address, "203.0.113.9")) > 0
    assert commands(cache_redis) == asked + 1

    assert limiter().retry_after((buyer, "18"), (address, "203.0.113.9")) == 0.0
    assert limiter().retry_after((buyer, "19"), (address, "203.0.113.9")) > 0


def test_who_asks_at_the_same_moment_shares_a_trip(monkeypatch: pytest.MonkeyPatch, cache_redis: redis.Redis) -> None:
    """And hears of its own key alone; also when Redis has forgotten the script meanwhile."""
    once, mine, others = Limit("once", AN_HOUR_SECONDS, 1), limiter(2), limiter(2)
    used_up = {f"key {number}" for number in range(0, CALLERS, 3)}
    assert [key for key in used_up if others.retry_after((once, key))] == []
    cache_redis.script_flush()
    send, asked = mine._trips._send, commands(cache_redis)

    def send_when_all_are_there(callers: Sequence[Mapping[str, Limit]]) -> Sequence[Sequence[float] | Exception]:
        eventually(lambda: len(callers) + mine._trips.waiting >= CALLERS or mine._trips.batches == 2)
        return send(callers)

    monkeypatch.setattr(mine._trips, "_send", send_when_all_are_there)
    keys = [f"key {number}" for number in range(CALLERS)]
    waits = at_once(keys, lambda key: mine.retry_after((once, key)))

    assert {key for key, wait in zip(keys, waits, strict=True) if wait} == used_up
    assert mine._trips.batches == 2
    assert commands(cache_redis) == asked + CALLERS + 1  # the first of all met no script, and came again


def test_nobody_asked_is_nobody_refused(cache_redis: redis.Redis) -> None:
    """No limit at all admits, and Redis hears nothing."""
    asked = commands(cache_redis)

    assert limiter().retry_after() == 0.0

    assert commands(cache_redis) == asked


def test_an_empty_key_is_an_error() -> None:
    """It would be everybody's; nothing is counted for the others that came with it."""
    limit, mine = Limit("named", AN_HOUR_SECONDS, 1), limiter()

    with pytest.raises(ValueError, match="limit 'named' was asked about an empty key"):
        mine.retry_after((limit, "somebody"), (limit, ""))

    assert mine.retry_after((limit, "somebody")) == 0.0


@pytest.mark.parametrize("nonsense", [("", 1.0, 1), ("x", 0.0, 1), ("x", -1.0, 1), ("x", 1.0, 0)])
def test_a_limit_that_is_none(nonsense: tuple[str, float, int]) -> None:
    """Refused where it is made, not where it is asked."""
    with pytest.raises(ValueError, match="no limit"):
        Limit(*nonsense)


@pytest.mark.parametrize("key", ["\0", "\udcff", "a b\r\nDEL x", "钥匙", "k" * 10_000])
def test_odd_keys(key: str) -> None:
    """Whatever somebody typed is a key like others."""
    assert admitted(limiter(), Limit("odd", AN_HOUR_SECONDS, 2), 3, key) == 2


def test_without_redis_everybody_has_a_share(frozen: Callable[[str], AbstractContextManager[None]]) -> None:
    """It hangs: four processes admit a quarter each, all together the limit; nobody hears an exception."""
    limit, four = Limit("away", AN_HOUR_SECONDS, 8), [limiter(4) for _ in range(4)]

    with frozen("redis-cache"):
        assert [admitted(mine, limit, 20) for mine in four] == [2, 2, 2, 2]

    assert [admitted(mine, limit, 1, "another") for mine in four] == [1, 1, 1, 1]


def test_without_redis_a_share_is_at_least_one(frozen: Callable[[str], AbstractContextManager[None]]) -> None:
    """A burst that is smaller than the number of processes keeps nobody out for good."""
    limit, mine = Limit("small", AN_HOUR_SECONDS, 2), limiter(50)

    with frozen("redis-cache"):
        assert admitted(mine, limit, 20) == 1


def test_a_redis_that_refuses_to_write_counts_as_away(cache_redis: redis.Redis) -> None:
    """No memory left: the share, again."""
    limit, mine = Limit("full", AN_HOUR_SECONDS, 8), limiter(4)
    limit_of_memory = cache_redis.config_get("maxmemory")["maxmemory"]
    policy = cache_redis.config_get("maxmemory-policy")["maxmemory-policy"]
    cache_redis.config_set("maxmemory-policy", "noeviction")
    cache_redis.config_set("maxmemory", 1)
    try:
        assert admitted(mine, limit, 20) == 2
    finally:
        cache_redis.config_set("maxmemory", limit_of_memory)
        cache_redis.config_set("maxmemory-policy", policy)


def test_a_clock_that_was_ahead_refuses_for_one_burst_at_most(cache_redis: redis.Redis) -> None:
    """Redis's clock is set back, or a key holds nonsense: nobody waits longer than a whole burst takes."""
    limit = Limit("clock", 10.0, 3)
    cache_redis.set(f"{PREFIX}clock:ahead", "9" * 17)
    cache_redis.set(f"{PREFIX}clock:nonsense", "yesterday")

    assert 0 < limiter().retry_after((limit, "ahead")) <= 10.0
    assert limiter().retry_after((limit, "nonsense")) == 0.0


def test_ten_thousand_clients_fit_into_the_memory() -> None:
    """It remembers those that came last and never more than it may; the refused stay refused in between."""
    limit, mine = Limit("crowd", AN_HOUR_SECONDS, 1), limiter(keys_maximum=500)

    assert sum(admitted(mine, limit, 1, f"client-{next(_keys)}") for _ in range(10_000)) == 10_000

    assert len(mine._own) <= 500
    assert admitted(mine, limit, 1, f"client-{next(_keys) - 1}") == 0


def test_a_child_counts_by_itself() -> None:
    """A fork while another thread asks: the child inherits the counts, and no lock that nobody gives back."""
    limit, mine = Limit("fork", AN_HOUR_SECONDS, 5), limiter()
    assert admitted(mine, limit, 2) == 2
    with mine._own.mutex:
        child = os.fork()
        if not child:
            os._exit(admitted(mine, limit, 20))

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert admitted(mine, limit, 20) == 0


def test_a_redis_without_the_script_learns_it(cache_redis: redis.Redis) -> None:
    """As after its restart: the first one to ask teaches it."""
    cache_redis.script_flush()

    assert admitted(limiter(), Limit("taught", AN_HOUR_SECONDS, 2), 3) == 2


@given(
    burst=st.integers(1, 20),
    steps=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
)
def test_it_is_a_token_bucket(burst: int, steps: list[float]) -> None:
    """In any window of whatever arrivals, no more pass than the burst and what the time has paid back."""
    arrivals = list(itertools.accumulate(steps))
    limits, clock = {"key": Limit("model", 1.0, burst)}, iter(arrivals)
    memory = _Memory(keys_maximum=10, clock=lambda: next(clock))

    passed = [arrival for arrival in arrivals if not memory.admit(limits)]

    assert len(passed) >= min(burst, len(arrivals))
    for first, last in itertools.combinations(range(len(passed)), 2):
        assert last - first + 1 <= burst + passed[last] - passed[first] + ROUNDING
