"""Servers that stay for the whole run, each alone on the processor of the servers while it is measured."""

import http.client
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from loadtests.contenders.overload import processors
from loadtests.house import House
from shop.local.options import Options
from shop.local.pings import http_answers
from shop.local.processes import NICENESS, WEB_THREADS, granian
from shop.local.service import Service
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

#: Served instead of an application whose SQL is counted.
COUNTED = "loadtests.contenders.lanes.counted:application"
PINNED = (sys.executable, "-m", processors.__name__, str(processors.SERVER))
#: Seconds that a ticket counts: it is made before a measurement, and used to its end.
AN_HOUR = "3600"
#: As most tutorials have it for a machine of one core: 2 x cores + 1 processes, and threads in which Redis is awaited.
GUNICORN_PROCESSES, GUNICORN_THREADS = 3, 16


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    pid: int
    #: A byte for each SQL statement.
    sql: Path

    @property
    def statements(self) -> int:
        return self.sql.stat().st_size if self.sql.exists() else 0

    @property
    def processor_seconds(self) -> float:
        return processors.seconds_of(self.pid)


#: Seconds until a sale must have been seen, and until somebody who was refused looks again.
LOOK_SECONDS, AGAIN_SECONDS = 10, 0.2


def look_at(server: "Server", slugs: Iterable[str]) -> None:
    """As people do before they press, and again when the shop is busy: the server knows these sales afterwards."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LOOK_SECONDS)
    for slug in slugs:
        give_up_at = time.monotonic() + LOOK_SECONDS
        while (status := _look(connection, slug)) != HTTPStatus.OK:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"a look at {slug} was answered {status}")
            time.sleep(AGAIN_SECONDS)
    connection.close()


def _look(connection: http.client.HTTPConnection, slug: str) -> int:
    connection.request("GET", f"/sales/{slug}/state", headers={"Host": "127.0.0.1"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


_ports: dict[str, int] = {}


def behind_granian(
    house: House, name: str, application: str, variables: Mapping[str, str] | None = None, *, niceness: int = 0
) -> Server:
    """The application at this `module:name`, served as the shop is."""
    port = _ports.setdefault(name, free_port())
    arguments = granian(Options.read({}), "--host", "127.0.0.1", "--port", str(port), application=application)
    return _server(house, name, port, [*PINNED, sys.executable, *arguments], variables or {}, niceness)


def shop(house: House, name: str, lane: str) -> Server:
    """The shop itself in this lane, with its numbers in files, as several processes need them."""
    numbers = house.state.path / f"{name}-numbers"
    numbers.mkdir(exist_ok=True)
    variables = {
        "LANE": lane,
        "DATABASE_POOL": "on",
        "WEB_THREADS": str(WEB_THREADS),
        "TICKET_SECONDS": AN_HOUR,
        "COUNTED": "shop.wsgi:application",
        "PROMETHEUS_MULTIPROC_DIR": str(numbers),
    }
    return behind_granian(house, name, COUNTED, variables, niceness=NICENESS[lane])


def behind_gunicorn(house: House, name: str, module: str) -> Server:
    port = _ports.setdefault(name, free_port())
    command = [
        *PINNED,
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--workers", str(GUNICORN_PROCESSES), "--threads", str(GUNICORN_THREADS), "--log-level", "warning"),
        *("--keep-alive", "60", COUNTED),
    ]
    return _server(house, name, port, command, {"COUNTED": f"{module}:application"})


def _server(
    house: House,
    name: str,
    port: int,
    command: Sequence[str],
    variables: Mapping[str, str],
    niceness: int = 0,
) -> Server:
    host, sql = f"127.0.0.1:{port}", house.state.path / f"{name}.sql"

    def service() -> Service:
        return Service(
            name=name,
            command=command,
            environment={**house.environment, "SHOP_URL": f"http://{host}", "SQL_FILE": str(sql), **variables},
            folder=CHECKOUT,
            is_ready=lambda: http_answers(port, "/livez", host),
            niceness=niceness,
        )

    return Server(port, house.keep_running(name, service), sql)
