"""The web process that `make up` starts, on the servers of this run, with a fault proxy before each of them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from django.db import connection

from shop.local.options import Options
from shop.local.processes import provider, web
from shop.local.service import Service
from tests.crowd import eventually
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Fault
from tests.free_ports import free_port

#: Whatever the shop depends on -> the variable that says where it is.
DEPENDENCIES = {
    "stock Redis": "STOCK_REDIS_URL",
    "cache Redis": "CACHE_REDIS_URL",
    "memcached": "MEMCACHED_URL",
    "PostgreSQL": "DATABASE_URL",
    "broker": "BROKER_URL",
    "payment provider": "PROVIDER_URL",
}
#: What is broken here are servers: that a busy machine makes the door refuse, and levels change, is tested elsewhere.
PATIENT = {"LEVEL": "NORMAL", "QUEUE_LEAST_MS": "250", "QUEUE_MOST_MS": "500"}
#: Seconds a process may take to end.
END_SECONDS = 20


class ProxiedShop:
    """`port` is the shop's; `strike` breaks one of its dependencies, `heal` mends all."""

    def __init__(self, port: int, proxies: dict[str, FaultProxy], log: Path) -> None:
        self.port = port
        self.proxies = proxies
        self._log = log

    def strike(self, dependency: str, fault: Fault) -> None:
        self.proxies[dependency].fault = fault

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-120:])


@contextmanager
def proxied_shop() -> Iterator[ProxiedShop]:
    """Started and warm enough to say that it is ready."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="proxied-shop-")))
        environment = _environment(folder)
        opened.enter_context(_running(provider(environment), folder))
        proxies = {
            name: opened.enter_context(proxy_before(environment[variable], folder))
            for name, variable in DEPENDENCIES.items()
        }
        behind = {variable: url_behind(environment[variable], proxies[name]) for name, variable in DEPENDENCIES.items()}
        log = opened.enter_context(_running(web({**environment, **behind}, Options.read(environment)), folder))
        yield ProxiedShop(int(environment["PORT"]), proxies, log)


def _environment(folder: Path) -> dict[str, str]:
    """That of this test process, with the database of the tests."""
    port, provider_port = free_port(), free_port()
    name, where = connection.settings_dict["NAME"], connection.settings_dict["HOST"]
    return {
        **os.environ,
        "DATABASE_URL": f"postgresql://shop@/{name}?host={where}&port={connection.settings_dict['PORT']}",
        "PORT": str(port),
        "SHOP_URL": f"http://127.0.0.1:{port}",
        "PROVIDER_PORT": str(provider_port),
        "PROVIDER_URL": f"http://127.0.0.1:{provider_port}",
        "STATE": str(folder),
        **PATIENT,
    }


def proxy_before(url: str, folder: Path) -> FaultProxy:
    """Before the server at this URL; closed until somebody enters it."""
    parts = urlsplit(url)
    if parts.scheme.startswith("http"):
        return FaultProxy((str(parts.hostname), parts.port or 80))
    if parts.scheme == "postgresql":  # its client gets a folder and makes the name by itself
        query = parse_qs(parts.query)
        name = f".s.PGSQL.{query['port'][0]}"
        return FaultProxy(Path(query["host"][0]) / name, listen=folder / name)
    return FaultProxy(Path(parts.path))


def url_behind(url: str, proxy: FaultProxy) -> str:
    """The URL of the same server by way of its proxy."""
    here, there = proxy.address, proxy.upstream
    if isinstance(here, tuple) and isinstance(there, tuple):
        return url.replace(f"{there[0]}:{there[1]}", f"{here[0]}:{here[1]}")
    if url.startswith("postgresql"):
        here, there = str(Path(str(here)).parent), str(Path(str(there)).parent)
    return url.replace(str(there), str(here))


@contextmanager
def _running(service: Service, folder: Path) -> Iterator[Path]:
    """The service as long as the block lasts; yields its log."""
    log = folder / f"{service.name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            service.command, env=service.environment, cwd=service.folder, stdout=output, stderr=output
        ) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or service.ready())
            assert process.poll() is None, log.read_text()
            yield log
        finally:
            process.terminate()
            process.wait(END_SECONDS)
