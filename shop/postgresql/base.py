"""Where Django looks for an engine. All but the borrowing from the pool is Django's.

psycopg_pool can check what it lends, but waits a second after a dead connection before it looks at the next: the first
people after a restart of PostgreSQL would be turned away from a server that is back.
"""

from typing import Any

from django.db.backends.postgresql import base
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

#: For Django's database options.
POOL: dict[str, Any] = {
    "min_size": 2,
    "max_size": 8,
    "timeout": 0.5,  # seconds a request waits for a connection
    "reconnect_timeout": 0,  # seconds of attempts in the background: whoever asks next makes the next attempt
}


class DatabaseWrapper(base.DatabaseWrapper):
    pool: Any  # Django's property, which its stubs do not know

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Raises OperationalError when PostgreSQL is away, or every connection is lent."""
        lent = super().get_new_connection(conn_params)
        if not self.pool:
            return lent
        for _ in range(POOL["max_size"]):
            if not _is_dead(lent):
                break
            # PostgreSQL was restarted, so those that lie in the pool are dead as well: all are made anew. One that was
            # under way at that moment may be dead, too, and come only now.
            self.pool.drain()
            self.pool.putconn(lent)
            lent = super().get_new_connection(conn_params)
        return lent


def _is_dead(connection: Any) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except OperationalError:
        return True
    return False
