"""PostgreSQL, the record. Its data folder carries the major version: another one could not read it."""

import shutil
import signal
import sys
from pathlib import Path

import psycopg

from shop.local.accounts import Account, own_folder
from shop.local.pings import PING_SECONDS, postgresql_answers
from shop.local.programs import Program
from shop.local.service import Service

#: Names the socket's file; nothing listens on a port.
PORT = 5432
#: Connections: a web process pools 8, a worker has 3, tests and a second terminal take the rest.
CONNECTIONS_MAXIMUM = 100
#: Never the locale of the caller, which would decide how names are sorted. Older macOS has no C.UTF-8.
LOCALE = "C" if sys.platform == "darwin" else "C.UTF-8"
#: What tests go without: an answer that survives a power cut.
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def url(sockets: Path, database: str = "shop") -> str:
    return f"postgresql://shop@/{database}?host={sockets}&port={PORT}"


def data_folder(home: Path, program: Program) -> Path:
    return home / f"pg-{program.version[0]}"


def initdb(program: Program, data: Path, account: Account | None) -> Service:
    """The errand that makes a new data folder. Anybody who can open the socket is trusted: its folder is 0700."""
    shutil.rmtree(data, ignore_errors=True)
    return Service(
        name="initdb",
        command=[
            str(program.path.with_name("initdb")),
            f"--pgdata={own_folder(data, account)}",
            f"--locale={LOCALE}",
            "--encoding=UTF8",
            "--auth=trust",
            "--username=shop",
            "--no-sync",  # a machine that fails within this second starts anew
        ],
        environment=program.environment,
        account=account,
    )


def service(program: Program, data: Path, sockets: Path, account: Account | None, *, durable: bool) -> Service:
    settings = [
        "listen_addresses=",
        f"unix_socket_directories={sockets}",
        "unix_socket_permissions=0700",
        f"max_connections={CONNECTIONS_MAXIMUM}",
        *(() if durable else NOT_DURABLE),
    ]
    return Service(
        name="postgresql",
        command=[
            str(program.path),
            f"-D{own_folder(data, account)}",  # which also restores the mode 0700 that PostgreSQL insists on
            f"-p{PORT}",
            *(f"-c{setting}" for setting in settings),
        ],
        environment=program.environment,
        account=account,
        is_ready=lambda: postgresql_answers(url(sockets, "postgres")),
        stop_signal=signal.SIGINT,  # TERM would wait for clients to leave
        is_server=True,
        socket=sockets / f".s.PGSQL.{PORT}",
    )


def ensure_database(sockets: Path) -> None:
    """Create the shop's database, empty, where it is missing."""
    with psycopg.connect(url(sockets, "postgres"), autocommit=True, connect_timeout=PING_SECONDS) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'shop'").fetchone():
            connection.execute("CREATE DATABASE shop")
