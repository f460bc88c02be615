"""One pool of connections to stock Redis for each process, and connections of their own for second tries."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from inventory.outcomes import InventoryUnavailable

#: redis-py's, whose methods carry no types.
Connection = Any

#: Connections of one process: more than its request threads would only queue in Redis.
CONNECTIONS_MAXIMUM = 64
#: Seconds a thread waits for a free connection, or for a new one to be accepted: local ones take a millisecond.
CONNECT_SECONDS = 0.1
#: Seconds a sent command may take. A healthy call takes a millisecond with its fsync; a buyer waits 300 ms at most.
ANSWER_SECONDS = 0.25


@contextmanager
def asking_redis() -> Iterator[None]:
    """Around reads, and writes that are safe to repeat: whatever goes wrong with Redis is InventoryUnavailable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise InventoryUnavailable(str(error)) from error


@cache
def stock_redis() -> redis.Redis:
    """The client of this process. It never retries by itself: only the caller knows what is safe to repeat."""
    pool = redis.BlockingConnectionPool.from_url(
        settings.STOCK_REDIS_URL,
        max_connections=CONNECTIONS_MAXIMUM,
        timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    return redis.Redis(connection_pool=pool)


@contextmanager
def pooled(client: redis.Redis) -> Iterator[Connection]:
    """A connection of the client's pool, back in it afterwards. Raises InventoryUnavailable when there is none."""
    pool = client.connection_pool
    with asking_redis():
        connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()  # type: ignore[no-untyped-call]  # an answer may still be on its way to whoever takes this connection next
        raise
    finally:
        pool.release(connection)


@contextmanager
def fresh(client: redis.Redis, seconds: float) -> Iterator[Connection]:
    """A connection like those of the client's pool that nobody used before, and nobody will use again.

    Each of its steps may take so many seconds. Raises InventoryUnavailable when it cannot be made.
    """
    pool = client.connection_pool
    limits = {"socket_connect_timeout": seconds, "socket_timeout": seconds}
    connection = pool.connection_class(**pool.connection_kwargs | limits)
    try:
        with asking_redis():
            connection.connect()
        yield connection
    finally:
        connection.disconnect()
