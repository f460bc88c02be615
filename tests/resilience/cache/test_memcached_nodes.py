"""Several memcached nodes: keys share them, and one that dies takes its own keys along and no others."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pymemcache.client.base import Client

from resilience.cache.tiered import TieredCache
from shop.local.servers import Running
from tests.crowd import eventually
from tests.resilience.cache.own_servers import OwnServer

KEYS = [f"lamp:{number}" for number in range(40)]


@pytest.fixture
def nodes(servers: Running) -> Iterator[list[OwnServer]]:
    with OwnServer(servers, "memcached").running() as one, OwnServer(servers, "memcached").running() as other:
        yield [one, other]


@pytest.fixture
def cache(location: str, patient_options: dict[str, Any], nodes: list[OwnServer]) -> Iterator[TieredCache]:
    addresses = [str(node.socket) for node in nodes]
    made = TieredCache(location, {"OPTIONS": patient_options | {"MEMCACHED": addresses}})
    made.stack.bus.listen()
    eventually(made.stack.bus.connected.is_set)
    yield made
    made.stack.bus.end()


def load(keys: list[str]) -> dict[str, str]:
    return {key: key.upper() for key in keys}


def entries(node: OwnServer) -> int:
    with closing(Client(str(node.socket))) as client:
        return int(client.stats()[b"curr_items"])


def hits(cache: TieredCache) -> dict[str, int]:
    return {tier: cache.tally()[tier] for tier in ("memcached", "redis", "loads")}


def test_both_nodes_have_their_share(cache: TieredCache, nodes: list[OwnServer]) -> None:
    """Each key is in one of them."""
    cache.get_many_or_set(KEYS, load, 60)

    shares = [entries(node) for node in nodes]
    assert sum(shares) == len(KEYS)
    assert all(shares)


def test_the_keys_of_a_dead_node_come_from_redis(cache: TieredCache, nodes: list[OwnServer]) -> None:
    """They go to no other node, and those of the other stay where they are; nothing is loaded again."""
    cache.get_many_or_set(KEYS, load, 60)
    alive = entries(nodes[1])
    cache.stack.memory.clear()
    nodes[0].kill()

    assert cache.get_many_or_set(KEYS, load, 60) == load(KEYS)

    assert hits(cache) == {"memcached": alive, "redis": len(KEYS) - alive, "loads": len(KEYS)}
    assert entries(nodes[1]) == alive
