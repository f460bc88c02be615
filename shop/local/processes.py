"""What runs besides the servers, in the order of its start: prepare, then all others at the same time."""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from shop.local.options import Options
from shop.local.pings import http_answers
from shop.local.service import Service
from shop.local.tools import CHECKOUT

#: Threads of a web process. Few of them work at a moment: the others are the seats of the waiting room, and refuse.
WEB_THREADS = 64
#: Connections that may wait for a web process, and that it may have (granian's backpressure is one of connections, and
#: counts idle ones): a spike is refused by the shop, in order of importance, and not by the kernel, which knows none.
WEB_BACKLOG = WEB_CONNECTIONS = 8_192
#: Processes of the worker: one drains while the other confirms payments.
WORKER_PROCESSES = 2
#: Every queue the shop sends to.
WORKER_QUEUES = "default,drain,effects,sweep"

Environment = Mapping[str, str]


def prepare(environment: Environment) -> Service:
    """The errand that migrates, collects static files and fills the demo."""
    return _python("prepare", ["manage.py", "prepare"], environment)


def application(environment: Environment, options: Options, state: Path) -> list[Service]:
    """All processes of the shop. The provider is not ours when PROVIDER_PORT is not set."""
    return [
        *([provider(environment)] if environment.get("PROVIDER_PORT") else []),
        web(environment, options),
        worker(environment, state / "worker.ready"),
        beat(environment, state / "beat-schedule"),
        _python("roll", ["manage.py", "demo", "--roll"], environment),
    ]


def provider(environment: Environment) -> Service:
    port, host = int(environment["PROVIDER_PORT"]), _host(environment["PROVIDER_URL"])
    return _python(
        "provider",
        ["-m", "shop.local.provider"],
        environment,
        is_ready=lambda: http_answers(port, "/", host),
    )


def web(environment: Environment, options: Options) -> Service:
    port, host = int(environment["PORT"]), _host(environment["SHOP_URL"])
    return _python(
        "web",
        [
            *("-m", "granian", "--interface", "wsgi", "--host", options.host, "--port", str(port)),
            *("--workers", str(options.workers), "--blocking-threads", str(WEB_THREADS)),
            *("--backlog", str(WEB_BACKLOG), "--backpressure", str(WEB_CONNECTIONS), "--no-ws"),
            *("--respawn-failed-workers", "--log-level", "warning"),
            "shop.wsgi:application",
        ],
        {**environment, "DATABASE_POOL": "on", "WEB_THREADS": str(WEB_THREADS)},
        is_ready=lambda: http_answers(port, "/readyz", host),
    )


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
    )


def beat(environment: Environment, schedule: Path) -> Service:
    arguments = ["--schedule", str(schedule), "--pidfile=", "--loglevel", "WARNING"]
    return _python("beat", ["-m", "celery", "-A", "shop", "beat", *arguments], environment)


def _python(name: str, arguments: list[str], environment: Environment, **how: object) -> Service:
    command = [sys.executable, *arguments]
    return Service(name=name, command=command, environment=environment, folder=CHECKOUT, **how)  # type: ignore[arg-type]


def _host(url: str) -> str:
    """What a browser would send as Host: the shop answers under its own names only."""
    return urlsplit(url).netloc
