"""The pool of a web process: whoever comes first after PostgreSQL was away is served."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from shop.postgresql.base import POOL, DatabaseWrapper
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Refuse

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
    """Whoever asks first after it is served, however often others asked in vain."""
    postgresql.fault = Refuse(dropping=True)
    for _ in range(4):  # psycopg_pool's own pauses would be 1, 2, 4 and 8 s now
        with pytest.raises(OperationalError):
            asked(web)

    postgresql.heal()

    assert asked(web)
