"""A web process of granian's, started as the shop starts its own, alone on its processor."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.contenders.overload import processors
from loadtests.contenders.overload.load import Kind, Load, Report, Seen, Stage, offer
from loadtests.house import House
from shop.local import processes
from shop.local.options import Options
from shop.local.service import Service
from tests.free_ports import free_port

#: Where the command of the shop's web process names what is served.
TARGET = "shop.wsgi:application"
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
    surroundings = {**environment, **variables, "PORT": str(port), "SHOP_URL": f"http://127.0.0.1:{port}"}
    options = Options(port=port, provider_port=None, state=Path(environment["STATE"]), workers=1, lan=False)
    web = processes.web(surroundings, options)
    command = [target if part == TARGET else part for part in web.command]
    if target not in command:
        raise LookupError(f"the shop's web process does not serve {TARGET} any more")
    pinned = [sys.executable, "-m", processors.__name__, str(processors.SERVER), *command]
    return Service(name=web.name, command=pinned, environment=surroundings, folder=web.folder, is_ready=web.is_ready)
