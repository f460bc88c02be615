"""A shop that has no memcached: the second tier is left out, and nothing else changes."""

from typing import Any

import pytest

from resilience.cache.tiered import TieredCache


@pytest.fixture
def cache(location: str, options: dict[str, Any]) -> TieredCache:
    return TieredCache(location, {"OPTIONS": {**options, "MEMCACHED": []}})


def test_everything_works_with_two_tiers(cache: TieredCache) -> None:
    """Each way into the cache, and each way out, also past process memory."""
    cache.set("offer:1", "written", 60)
    cache.add("offer:2", "added", 60)
    cache.get_or_set("offer:3", lambda: "loaded", 60)
    cache.stack.memory.clear()

    assert cache.get_many(["offer:1", "offer:2", "offer:3"]) == {
        "offer:1": "written",
        "offer:2": "added",
        "offer:3": "loaded",
    }

    cache.delete("offer:1")
    assert cache.get("offer:1") is None
    assert cache.get_or_set("offer:1", lambda: "loaded again", 60) == "loaded again"


def test_a_cache_without_memcached_is_cleared(cache: TieredCache) -> None:
    cache.set("offer:1", "written", 60)

    cache.clear()

    assert cache.get("offer:1") is None
