"""The pool of a web process: whoever comes first after PostgreSQL was away is served, and nobody waits for one that
hangs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import DataError, OperationalError, connection

from resilience import deadline
from resilience.breaker import OPEN
from shop.postgresql.base import POOL, DatabaseWrapper, give_back
from shop.postgresql.base import postgresql as guard
from tests.crowd import eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import NeverRead, Refuse

SOCKET = ".s.PGSQL.5432"

pytestmark = pytest.mark.django_db


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[FaultProxy]:
    """The real server, behind a door that can be closed."""
    real = Path(connection.settings_dict["HOST"]) / SOCKET
    with FaultProxy(real, listen=tmp_path / SOCKET) as proxy:
        yield proxy


@pytest.fixture
def web(postgresql: FaultProxy, tmp_path: Path) -> Iterator[DatabaseWrapper]:
    """A request thread's connection in a web process whose pool is full."""
    facts = connection.settings_dict
    how = {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False, "OPTIONS": {**facts["OPTIONS"], "pool": POOL}}
    wrapper = DatabaseWrapper({**facts, **how, "HOST": str(tmp_path)}, alias="web")
    assert asked(wrapper)
    wrapper.pool.wait()
    yield wrapper
    wrapper.close_pool()


def asked(wrapper: DatabaseWrapper) -> bool:
    """One request: a connection is lent, used and given back."""
    try:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT true")
            return bool(cursor.fetchone()[0])
    finally:
        wrapper.close()


def test_the_first_who_asks_after_a_restart_is_served(postgresql: FaultProxy, web: DatabaseWrapper) -> None:
    """All idle connections are dead, and nobody is turned away to find that out."""
    postgresql.drop_connections()

    assert asked(web)


def test_an_outage_adds_no_waiting_of_its_own(postgresql: FaultProxy, web: DatabaseWrapper) -> None:
    """Whoever asks first after it is served by the pool, however often others asked in vain."""
    guard.breaker.bypass()  # it would add some, on purpose
    postgresql.fault = Refuse(dropping=True)
    for _ in range(4):  # psycopg_pool's own pauses would be 1, 2, 4 and 8 s now
        with pytest.raises(OperationalError):
            asked(web)

    postgresql.heal()

    assert asked(web)


def test_whoever_answers_without_django_gives_back_what_it_borrowed(web: DatabaseWrapper) -> None:
    """More people than the pool has connections, each on a thread that lives on."""
    people = [DatabaseWrapper(web.settings_dict, alias="web") for _ in range(POOL["max_size"] + 1)]

    for wrapper in people:
        assert value(wrapper, "SELECT 1") == 1
        give_back()

    assert web.pool.get_stats()["pool_available"] >= 1


# --- A PostgreSQL that hangs, or is not there ------------------------------------------------------------------------

#: Seconds that somebody waits in these tests.
DEADLINE_SECONDS = 0.3


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """That process stands still: it keeps its connection and answers nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: is_stopped(pid))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def value(wrapper: DatabaseWrapper, query: str) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def ask_in_vain(wrapper: DatabaseWrapper) -> None:
    with deadline.within(DEADLINE_SECONDS), pytest.raises(OperationalError):
        asked(wrapper)


def test_a_query_of_a_server_that_hangs_ends_with_the_deadline(web: DatabaseWrapper) -> None:
    """The caller hears while the server still stands; its late answer is heard by nobody."""
    server = value(web, "SELECT pg_backend_pid()")

    with stopped(server):
        with deadline.within(DEADLINE_SECONDS), pytest.raises(OperationalError, match="no answer within"):
            value(web, "SELECT 17")
        assert is_stopped(server)

    web.close()
    assert value(web, "SELECT pg_backend_pid()") != server


def test_whoever_borrows_from_a_server_that_hangs_is_not_kept(web: DatabaseWrapper) -> None:
    server = value(web, "SELECT pg_backend_pid()")
    web.close()

    with stopped(server):
        outcomes = [served(web) for _ in range(POOL["max_size"])]  # until it is that one's turn
        assert is_stopped(server)
    assert outcomes.count(False) == 1  # found out once; the others of the pool serve on


def test_after_three_who_heard_nothing_nobody_asks_any_more(postgresql: FaultProxy, web: DatabaseWrapper) -> None:
    postgresql.fault = NeverRead()
    for _ in range(guard.breaker.thresholds.failures_in_a_row):
        ask_in_vain(web)
    assert guard.breaker.state == OPEN
    sent = postgresql.bytes_up

    with pytest.raises(OperationalError, match="is not asked"):
        asked(web)

    assert postgresql.bytes_up == sent


def test_a_server_that_is_gone_is_left_alone_and_found_again(postgresql: FaultProxy, web: DatabaseWrapper) -> None:
    postgresql.fault = Refuse(dropping=True)
    while guard.breaker.state != OPEN:
        ask_in_vain(web)

    postgresql.heal()

    assert eventually(lambda: served(web))
    assert eventually(lambda: served(web) and guard.breaker.is_closed)


def served(wrapper: DatabaseWrapper) -> bool:
    try:
        with deadline.within(DEADLINE_SECONDS):
            return asked(wrapper)
    except OperationalError:
        return False


def test_answers_that_are_errors_are_no_reason_to_stop_asking(web: DatabaseWrapper) -> None:
    """A division by nought, and a query that PostgreSQL ended because it took too long: it works."""
    for _ in range(2 * guard.breaker.thresholds.failures_in_a_row):
        with pytest.raises(DataError):
            value(web, "SELECT 1 / 0")
        value(web, "SELECT length(set_config('statement_timeout', '10', false))")
        with pytest.raises(OperationalError, match="statement timeout"):
            value(web, "SELECT length(pg_sleep(10)::text)")

    assert guard.breaker.is_closed
    web.close()
    assert asked(web)


def test_a_pool_that_is_lent_out_is_not_a_server_that_is_down(web: DatabaseWrapper) -> None:
    lent = [web.pool.getconn() for _ in range(POOL["max_size"])]
    for _ in range(2):
        with pytest.raises(OperationalError):
            asked(web)
    for each in lent:
        web.pool.putconn(each)

    assert asked(web)
    assert guard.breaker.is_closed
