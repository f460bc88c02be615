"""Where Django looks for an engine. All but the pool of a web process is Django's.

A web process borrows each connection through a guard: whoever asks while PostgreSQL is down or hangs hears so at once,
and whoever has asked waits no longer than the deadline of the request. A worker has no pool, nobody who waits for it,
and its beat as a retry: it asks without a guard.
"""

import threading
import time
from typing import Any, TypeVar

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg import Connection, IsolationLevel, OperationalError, pq
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool, PoolTimeout

from resilience import deadline
from resilience.breaker import OPEN, BreakerOpen
from resilience.guard import Full, Guard, Thresholds
from resilience.refused import Refused

#: Seconds after DATABASE_STATEMENT_TIMEOUT_MS in which PostgreSQL says that it has ended a query, if it says anything.
TIMEOUT_TOLD_SECONDS = 1.0
#: Seconds a query has at least, also after the deadline: a healthy COMMIT or ROLLBACK needs one millisecond, and one
#: that is cut off leaves open what has happened.
GRACE_SECONDS = 0.05
#: Seconds for the look at a connection before it is used. A millisecond is normal; a busy neighbour adds a hundred.
CHECK_SECONDS = 0.25
#: Seconds after which psycopg looks whether somebody has pressed Ctrl-C, as it does by itself.
LISTEN_SECONDS = 0.1
#: Seconds between two looks at whether waiting for a connection is still of use.
LOOK_SECONDS = 0.02

#: Waiting for one of the pool's connections is not PostgreSQL's slowness, so only what is far longer counts as slow.
postgresql = Guard("PostgreSQL", thresholds=Thresholds(slow_seconds=1.0))

Result = TypeVar("Result")


class Hung(OperationalError):
    """No answer came in time. The connection is closed, because the answer may still come."""


class ImpatientConnection(Connection[Any]):
    """Waits no longer than the request does. psycopg waits for ever, and statement_timeout is kept by the server: one
    that hangs keeps nothing."""

    #: While it is being borrowed, whoever borrows it tells what became of it.
    is_lent = False

    def wait(self, gen: PQGen[Result], interval: float = LISTEN_SECONDS, timeout: float | None = None) -> Result:
        """Raises Hung."""
        longest = settings.DATABASE_STATEMENT_TIMEOUT_MS / 1000 + TIMEOUT_TOLD_SECONDS if timeout is None else timeout
        patience = min(longest, max(GRACE_SECONDS, deadline.left_seconds()))
        try:
            return super().wait(gen, interval, patience)
        except OperationalError as error:
            broken = self._broken(error, patience)
            if broken and self.is_lent:
                _report(broken)
            raise (broken or error) from error.__cause__

    def _broken(self, error: OperationalError, patience: float) -> OperationalError | None:
        """What is wrong with the connection; None when PostgreSQL has answered, if only with an error."""
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            self.close()
            return Hung(f"no answer within {patience:.2f} s")
        return error if self.pgconn.status == pq.ConnStatus.BAD else None


def _report(why: object) -> None:
    """A failure outside of borrowing: the breaker should know."""
    try:
        with postgresql.breaker.watching() as call:
            call.failed(why)
    except BreakerOpen:
        pass  # it knows


#: For Django's database options.
POOL: dict[str, Any] = {
    "connection_class": ImpatientConnection,
    "min_size": 2,
    "max_size": 8,
    "timeout": 0.5,  # seconds a request waits for a connection
    "reconnect_timeout": 0,  # seconds of attempts in the background: whoever asks next makes the next attempt
    "reconnect_failed": lambda _pool: _report("it takes no connection"),
}


class _Borrowed(threading.local):
    """Of this thread."""

    def __init__(self) -> None:
        self.by: set[DatabaseWrapper] = set()


_borrowed = _Borrowed()


def give_back() -> None:
    """What this thread has borrowed goes back to the pool. Django does that at the end of a request of its own; whoever
    answers without Django has to. It costs nothing when nothing was borrowed."""
    while _borrowed.by:
        _borrowed.by.pop().close()


class DatabaseWrapper(base.DatabaseWrapper):
    pool: Any  # Django's property, which its stubs do not know

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Raises OperationalError when PostgreSQL is away, or every connection is lent."""
        if not self.pool:
            return super().get_new_connection(conn_params)
        self.isolation_level = IsolationLevel.READ_COMMITTED  # as Django's own does
        self.pool.open()
        try:
            with postgresql.watching():
                lent = self._borrow()
        except Refused as refusal:
            raise OperationalError(f"{postgresql.name} is not asked: {refusal!r}") from refusal
        _borrowed.by.add(self)
        return lent

    def _borrow(self) -> Any:
        """A connection that works. psycopg_pool can check what it lends, but waits a second after a dead one before it
        looks at the next: the first people after a restart of PostgreSQL would be turned away from a server that is
        back."""
        for _ in range(POOL["max_size"]):
            lent = self._lend()
            try:
                if _works(lent):
                    lent.is_lent = True
                    return lent
            except BaseException:
                self.pool.putconn(lent)
                raise
            # PostgreSQL was restarted, so those that lie in the pool are dead as well: all are made anew. One that was
            # under way at that moment may be dead, too, and come only now.
            self.pool.drain()
            self.pool.putconn(lent)
        raise OperationalError("all connections of the pool are dead")

    def _lend(self) -> Any:
        """Raises Full when others got one meanwhile, and PoolTimeout when nobody did; BreakerOpen as soon as attempts
        to connect have shown that nobody is there."""
        ends_at = time.monotonic() + min(POOL["timeout"], deadline.left_seconds())
        while True:
            left = max(0.0, ends_at - time.monotonic())
            all_made = self.pool.get_stats()["pool_size"] >= POOL["max_size"]
            try:
                return self.pool.getconn(left if all_made else min(left, LOOK_SECONDS))
            except PoolTimeout:
                if postgresql.breaker.state == OPEN:
                    raise BreakerOpen(postgresql.name) from None
                if time.monotonic() >= ends_at:
                    if postgresql.breaker.silent_seconds < POOL["timeout"]:
                        raise Full(f"all {POOL['max_size']} connections are lent") from None
                    raise


def _works(connection: Any) -> bool:
    """False for a dead one. Raises Hung: the next one would hang, too."""
    try:
        connection.is_lent = False
        with deadline.within(CHECK_SECONDS):
            ConnectionPool.check_connection(connection)
    except Hung:
        raise
    except OperationalError:
        return False
    return True
