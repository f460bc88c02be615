"""What runs besides the servers, in the order of its start: prepare, then all others at the same time."""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from shop.local.edge import lane_socket
from shop.local.options import Options
from shop.local.pings import http_answers, http_answers_on
from shop.local.service import Service
from shop.local.tools import CHECKOUT

#: Threads of a web process. Few of them work at a moment: the others are the seats of the waiting room, and refuse.
WEB_THREADS = 76
#: Connections that may wait for a web process, and that it may have (granian's backpressure is one of connections, and
#: counts idle ones): a spike is refused by the shop, in order of importance, and not by the kernel, which knows none.
WEB_BACKLOG = WEB_CONNECTIONS = 8_192
#: The lanes behind the edge: each is the whole application, and gets the requests that are its own.
LANES = ("express", "pages")
#: What is behind a click gives way to it, and Django's pages to both (`precedence.py`). Beside five times of what the
#: pages can do, clicks took 10 to 11 ms at their p99 with a niceness of 5 for the pages, and 8 with 10.
BEHIND, NICENESS = 5, {"express": 0, "pages": 10}
#: What a reload starts anew besides: orders wait for it in the stream.
RESTARTED_BY_RELOAD = ("worker", "beat")
#: Processes of the worker: one drains while the other confirms payments.
WORKER_PROCESSES = 2
#: Every queue the shop sends to.
WORKER_QUEUES = "default,drain,effects,sweep"

Environment = Mapping[str, str]


def prepare(environment: Environment) -> Service:
    """The errand that migrates, collects static files and fills the demo."""
    return _python("prepare", ["manage.py", "prepare"], environment)


def application(environment: Environment, web: list[Service], state: Path) -> list[Service]:
    """All processes of the shop. The provider is not ours when PROVIDER_PORT is not set."""
    return [
        *([provider(environment)] if environment.get("PROVIDER_PORT") else []),
        *web,
        worker(environment, state / "worker.ready"),
        beat(environment, state / "beat-schedule"),
        _python("roll", ["manage.py", "demo", "--roll"], environment, niceness=BEHIND),
    ]


def provider(environment: Environment) -> Service:
    port, host = int(environment["PROVIDER_PORT"]), _host(environment["PROVIDER_URL"])
    return _python(
        "provider",
        ["-m", "shop.local.provider"],
        environment,
        is_ready=lambda: http_answers(port, "/", host),
        niceness=BEHIND,
    )


def web(environment: Environment, options: Options) -> Service:
    """One process for everything, on the shop's port: without an edge."""
    port, host = int(environment["PORT"]), _host(environment["SHOP_URL"])
    return _python(
        "web",
        granian(options, "--host", options.host, "--port", str(port)),
        {**environment, **_web_variables("all")},
        is_ready=lambda: http_answers(port, "/readyz", host),
    )


def lanes(environment: Environment, options: Options, sockets: Path, generation: int) -> list[Service]:
    """The two processes behind the edge, each on a socket of its own."""
    return [lane(name, environment, options, lane_socket(sockets, name, generation)) for name in LANES]


def lane(name: str, environment: Environment, options: Options, socket: Path) -> Service:
    host = _host(environment["SHOP_URL"])
    return _python(
        name,
        # Anybody may open the socket who can reach it: its folder is open to us and to the account of nginx alone.
        granian(options, "--uds", str(socket), "--uds-permissions", "0666"),
        {**environment, **_web_variables(name), "TRUSTED_PROXIES": "1"},  # which is the edge
        is_ready=lambda: http_answers_on(socket, "/readyz", host),
        ready_file=socket,  # granian does not take over one that a killed process has left
        niceness=NICENESS[name],
    )


def granian(options: Options, *listens: str, application: str = "shop.wsgi:application") -> list[str]:
    """The arguments of Python; what is served is `module:name`."""
    return [
        *("-m", "granian", "--interface", "wsgi", *listens),
        *("--workers", str(options.workers), "--blocking-threads", str(WEB_THREADS)),
        *("--backlog", str(WEB_BACKLOG), "--backpressure", str(WEB_CONNECTIONS), "--no-ws"),
        *("--respawn-failed-workers", "--log-level", "warning"),
        application,
    ]


def _web_variables(lane: str) -> dict[str, str]:
    return {"DATABASE_POOL": "on", "WEB_THREADS": str(WEB_THREADS), "LANE": lane}


def worker(environment: Environment, ready_file: Path) -> Service:
    return _python(
        "worker",
        [
            *("-m", "celery", "-A", "shop", "worker", "-n", "worker@local"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            *("-c", str(WORKER_PROCESSES), "-Q", WORKER_QUEUES, "--loglevel", "WARNING"),
        ],
        {**environment, "WORKER_READY_FILE": str(ready_file)},
        ready_file=ready_file,
        niceness=BEHIND,
    )


def beat(environment: Environment, schedule: Path) -> Service:
    arguments = ["--schedule", str(schedule), "--pidfile=", "--loglevel", "WARNING"]
    return _python("beat", ["-m", "celery", "-A", "shop", "beat", *arguments], environment, niceness=BEHIND)


def _python(name: str, arguments: list[str], environment: Environment, **how: object) -> Service:
    command = [sys.executable, *arguments]
    return Service(name=name, command=command, environment=environment, folder=CHECKOUT, **how)  # type: ignore[arg-type]


def _host(url: str) -> str:
    """What a browser would send as Host: the shop answers under its own names only."""
    return urlsplit(url).netloc
