"""A web process of granian's, started as the shop starts its own, alone on its processor."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from loadtests.contenders.overload import processors
from loadtests.contenders.overload.load import Kind, Load, Report, Seen, Stage, offer
from loadtests.house import House
from shop.local.pings import http_answers
from shop.local.processes import WEB_BACKLOG, WEB_CONNECTIONS, WEB_THREADS
from shop.local.service import Service
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

#: Of the arrivals: two runs differ by the server only.
SEED = 20_260
#: Clients, and seconds, before anything counts: threads, caches and connections are there then.
WARM_UP_CLIENTS, WARM_UP_SECONDS = 4, 1.0
#: Where clients wait for their answers, the schedule gives the order alone.
ANY_RATE = 1_000.0


@dataclass(frozen=True, slots=True)
class Window:
    """A load, and what the server's processor worked meanwhile."""

    report: Report
    server_seconds: float

    @property
    def seen(self) -> Seen:
        """Of the only stage."""
        [seen] = self.report.stages
        return seen

    def cost_of(self, what: str) -> float:
        """Seconds of the server's processor for each request of which this became. Raises ValueError if none did."""
        number = sum(seen.total(what) for seen in self.report.stages)
        if not number:
            raise ValueError(f"no request was {what}: {self.report}")
        return self.server_seconds / number


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    pid: int

    def under(self, kinds: Sequence[Kind], *stages: Stage, closed: int = 0) -> Window:
        before = processors.seconds_of(self.pid)
        report = offer(Load(self.port, kinds, stages, SEED, closed))
        return Window(report, processors.seconds_of(self.pid) - before)

    def asked_by(self, clients: int, kinds: Sequence[Kind], seconds: float) -> Window:
        """As much as so many clients can ask who wait for their answers."""
        return self.under(kinds, Stage(ANY_RATE, seconds), closed=clients)


@contextmanager
def served(house: House, target: str, warm_by: Sequence[Kind] = (), **variables: str) -> Iterator[Server]:
    """The application at this `module:name`, with the shop's own number of threads and connections in line."""
    port = free_port()
    with house.running(_service(house.environment, target, port, variables)) as pid:
        server = Server(port, pid)
        if warm_by:
            server.asked_by(WARM_UP_CLIENTS, warm_by, WARM_UP_SECONDS)
        yield server


def _service(environment: Mapping[str, str], target: str, port: int, variables: Mapping[str, str]) -> Service:
    host = f"127.0.0.1:{port}"
    return Service(
        name=f"web-{port}",
        command=[
            *(sys.executable, "-m", processors.__name__, str(processors.SERVER)),
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", "1", "--blocking-threads", str(WEB_THREADS), "--no-ws", "--log-level", "warning"),
            *("--backlog", str(WEB_BACKLOG), "--backpressure", str(WEB_CONNECTIONS), target),
        ],
        environment={
            **environment,
            **variables,
            "SHOP_URL": f"http://{host}",
            "DATABASE_POOL": "on",
            "WEB_THREADS": str(WEB_THREADS),
        },
        folder=CHECKOUT,
        is_ready=lambda: http_answers(port, "/livez", host),
    )
