"""One pool of connections to stock Redis for each process, and connections of their own for second tries.

Whoever borrows a connection passes the guard of stock Redis, and is counted when the connection goes back: one that
was lost meanwhile is a failure. What the guard refuses was not sent, and is InventoryUnavailable like Redis itself.
"""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from inventory._deadline import InTime, keeping_deadlines
from inventory.outcomes import InventoryUnavailable
from resilience import deadline
from resilience.guard import Guard, Passage, Thresholds
from resilience.refused import Refused

#: redis-py's, whose methods carry no types.
Connection = Any

#: Connections of one process: more than its request threads would only queue in Redis.
CONNECTIONS_MAXIMUM = 64
#: Seconds a thread waits for a free connection, or for a new one to be accepted: local ones take a millisecond.
CONNECT_SECONDS = 0.1
#: Seconds a call of a script may take to its last byte, and a plain command between two pieces of its answer. A
#: healthy one takes a millisecond with its fsync; a buyer waits 300 ms at most.
ANSWER_SECONDS = 0.25

#: A long read of a worker is slow, and no sign that anything is wrong.
guard = Guard(
    "stock Redis",
    at_once=CONNECTIONS_MAXIMUM,
    thresholds=Thresholds(slow_seconds=ANSWER_SECONDS, slow_share=1),
)


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
    pool = _GuardedPool.from_url(
        settings.STOCK_REDIS_URL,
        max_connections=CONNECTIONS_MAXIMUM,
        timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    return redis.Redis(connection_pool=keeping_deadlines(pool))


class _GuardedPool(redis.BlockingConnectionPool):
    """All that is asked of stock Redis, by scripts, commands and pipelines, borrows a connection here."""

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """Raises redis-py's ConnectionError when the guard refuses: nothing was sent."""
        passage = _enter()
        try:
            connection = super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]  # redis-py's
        except BaseException as error:
            passage.__exit__(type(error), error, None)
            raise
        connection.passage = passage
        connection.hurry(deadline.left_seconds())
        return connection

    def release(self, connection: Any) -> None:
        """Also called by the pool itself for one that could not be connected, which nobody has borrowed."""
        passage, connection.passage = connection.passage, None
        if passage and not connection.is_connected:
            passage.failed("the connection was lost")
        connection.hurry(math.inf)
        try:
            super().release(connection)  # type: ignore[no-untyped-call]  # redis-py's
        finally:
            if passage:
                passage.__exit__(None, None, None)


def _enter() -> Passage:
    try:
        return guard.watching().__enter__()
    except Refused as refusal:
        raise redis.ConnectionError(f"{guard.name} is not asked: {refusal!r}") from refusal


@contextmanager
def pooled(client: redis.Redis) -> Iterator[Connection]:
    """A connection of the client's pool, back in it afterwards, for ANSWER_SECONDS from now, waiting for it included.

    Raises InventoryUnavailable when there is none. What comes later than that is lost with the connection.
    """
    pool, started = client.connection_pool, time.monotonic()
    with asking_redis():
        connection = pool.get_connection()
    left = ANSWER_SECONDS - (time.monotonic() - started)
    try:
        # A client that is not `stock_redis` has timeouts of its own.
        with connection.within(left) if isinstance(connection, InTime) else nullcontext():
            yield connection
    except BaseException:
        connection.disconnect()  # type: ignore[no-untyped-call]  # an answer may still be on its way to whoever takes this connection next
        raise
    finally:
        pool.release(connection)


@contextmanager
def fresh(client: redis.Redis, seconds: float) -> Iterator[Connection]:
    """A connection like those of the client's pool that nobody used before, and nobody will use again.

    Making it and all that is done with it may take so many seconds together. Raises InventoryUnavailable when it cannot
    be made.
    """
    pool = client.connection_pool
    limits = {"socket_connect_timeout": seconds, "socket_timeout": seconds}
    connection = pool.connection_class(**pool.connection_kwargs | limits)
    with asking_redis():
        passage = _enter()
    with ExitStack() as ends:
        ends.push(passage)  # which was entered above; a second time would take a second place, and keep it
        ends.enter_context(connection.within(seconds))
        try:
            with asking_redis():
                connection.connect()
            yield connection
            if not connection.is_connected:
                passage.failed("the connection was lost")
        finally:
            connection.disconnect()
