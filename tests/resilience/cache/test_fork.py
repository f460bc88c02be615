"""A process with a warm cache forks, as a server that loads the program first does."""

import os
import threading
from collections.abc import Callable
from typing import Any

import redis

from resilience.cache.tiered import TieredCache
from tests.crowd import at_once, eventually

#: What a child's exit status says.
FINE, BROKEN = 0, 1
#: Both ask at the same moment, so often.
ROUNDS = 200


def in_child(work: Callable[[], object]) -> Callable[[], None]:
    """Begin the work in a forked child; call what is returned to wait for its good end."""
    child = os.fork()
    if child == 0:
        status = BROKEN
        try:
            work()
            status = FINE
        finally:
            os._exit(status)
    return lambda: _joined(child)


def _joined(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == FINE


def sockets_of(cache: TieredCache) -> set[int]:
    """Numbers that the system has for this process's connections to memcached."""
    clients = [client for node in cache.stack.memcached._nodes.values() for client in node._pool.client_pool._free_objs]
    return {os.fstat(client.sock.fileno()).st_ino for client in clients}


def warm(cache: TieredCache) -> None:
    cache.set_many({f"key:{number}": number for number in range(20)})
    assert cache.stack.bus.connected.wait(20)
    cache.set("key", "value")
    assert cache.get_or_set("key", lambda: "loaded") == "value"


def ask_often(cache: TieredCache) -> None:
    """Everybody gets the answer to the own question, whatever others ask meanwhile."""
    for round_ in range(ROUNDS):
        name = f"key:{round_ % 20}"
        cache.stack.memory.clear()
        assert cache.get(name) == round_ % 20
        cache.ask_redis()


def test_child_and_parent_share_no_connection(cache: TieredCache) -> None:
    warm(cache)
    parents = sockets_of(cache)
    assert parents

    def work() -> None:
        assert len(cache.stack.memory) == 0
        ask_often(cache)
        assert not sockets_of(cache) & parents

    wait_for_child = in_child(work)
    ask_often(cache)
    wait_for_child()

    assert sockets_of(cache) >= parents
    assert cache.stack.redis.guard.breaker.is_closed


def test_a_child_hears_the_bus_by_itself(cache: TieredCache, cache_redis: redis.Redis, location: str) -> None:
    """And the parent goes on hearing it."""
    warm(cache)

    def listeners() -> int:
        return int(cache_redis.pubsub_numsub(f"{location}:invalidated")[0][1])

    has_read, says_so = os.pipe()

    def work() -> None:
        assert not cache.stack.bus.connected.is_set()
        assert cache.get("key") == "value"
        os.write(says_so, b".")
        assert cache.stack.bus.connected.wait(20)
        cache.set("from the child", "value")
        eventually(lambda: cache.get("key") == "changed")

    wait_for_child = in_child(work)
    os.close(says_so)
    assert os.read(has_read, 1) == b"."  # listening begins with the first look, and may be faster than it
    os.close(has_read)
    eventually(lambda: listeners() == 2)
    cache.set("key", "changed")
    wait_for_child()

    assert eventually(lambda: cache.get("from the child") == "value")
    eventually(lambda: listeners() == 1)
    cache_redis.publish(f"{location}:invalidated", '["somebody", ["key"]]')
    eventually(lambda: cache.stack.memory.find("key") is None)


def test_locks_and_flights_of_the_parent_bind_no_child(cache: TieredCache, cache_redis: redis.Redis) -> None:
    """At the moment of the fork a thread of the parent loads, and all locks are held."""
    warm(cache)
    may_end = threading.Event()
    loading = threading.Thread(target=cache.get_or_set, args=("slow", lambda: may_end.wait(20) and "parent's"))
    loading.start()
    eventually(lambda: "slow" in cache.stack.flights._under_way)
    stack = cache.stack
    locks: list[Any] = [
        stack.memory._changing,
        stack.flights._changing,
        stack.flights._changed,
        stack.tallies._changing,
    ]
    for lock in locks:
        lock.acquire()

    def work() -> None:
        assert cache.tally() == dict.fromkeys(cache.tally(), 0)
        answers = at_once(range(4), lambda number: cache.get_or_set(f"new:{number}", lambda: number))
        assert answers == list(range(4))
        assert "slow" not in cache.stack.flights._under_way
        cache.get_or_set("due", lambda: "old", 0.01)
        eventually(lambda: cache.get_or_set("due", lambda: "new", 60) == "new")  # by the child's own refreshers

    try:
        wait_for_child = in_child(work)
    finally:
        for lock in locks:
            lock.release()
    wait_for_child()
    may_end.set()
    loading.join()

    assert cache.get("slow") == "parent's"
