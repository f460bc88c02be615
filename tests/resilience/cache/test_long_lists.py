"""A list of more keys than one question takes."""

import gc

import pytest

from resilience.cache.reading import _garbage_left_alone
from resilience.cache.redis_tier import PORTION_KEYS
from resilience.cache.tiered import TieredCache

KEYS = [f"offer:{number}" for number in range(2 * PORTION_KEYS + 1)]


@pytest.fixture
def filled(cache: TieredCache) -> TieredCache:
    """Every second key is in Redis; process memory has none."""
    there = KEYS[::2]
    for start in range(0, len(there), PORTION_KEYS):
        cache.set_many({key: f"kept {key}" for key in there[start : start + PORTION_KEYS]}, 60)
    cache.stack.memory.clear()
    return cache


def test_what_redis_lacks_is_loaded_by_one_call(filled: TieredCache) -> None:
    """The rest comes from Redis, and all of it is in the answer."""
    calls = []

    def load(missing: list[str]) -> dict[str, str]:
        calls.append(missing)
        return {key: f"loaded {key}" for key in missing}

    found = filled.get_many_or_set(KEYS, load, 60)

    assert calls == [KEYS[1::2]]
    assert found == {key: f"{'loaded' if number % 2 else 'kept'} {key}" for number, key in enumerate(KEYS)}


def test_garbage_is_looked_for_again_afterwards(filled: TieredCache) -> None:
    filled.get_many_or_set(KEYS, lambda missing: dict.fromkeys(missing, "loaded"), 60)

    assert gc.isenabled()


def two_lists_and_a_failure() -> None:
    with _garbage_left_alone():
        with _garbage_left_alone():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise MemoryError


def test_garbage_is_looked_for_again_after_a_failure() -> None:
    """Also when a second list begins meanwhile: the one that stopped the collector starts it."""
    with pytest.raises(MemoryError):
        two_lists_and_a_failure()

    assert gc.isenabled()


def test_who_runs_without_the_collector_goes_on_without() -> None:
    gc.disable()
    try:
        with _garbage_left_alone():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
