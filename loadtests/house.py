"""Servers of the bench's own, as durable as in production, and what its contenders need in them.

Everything lives in a folder of the temp folder that is gone afterwards; neither a running `make up` nor the variables
of the caller's shell are used.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import django
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from loadtests.contenders.overload import processors
from shop.local import processes
from shop.local.accounts import shared_temp
from shop.local.programs import Kind, Program
from shop.local.servers import SERVERS, Running, start_all
from shop.local.service import Service
from shop.local.state import State
from shop.local.tools import CHECKOUT
from tests.servers import PREFIX, TEST_VARIABLES, clean_environment, remove_what_killed_runs_left


class House:
    """The running servers. Every measurement begins with them empty."""

    def __init__(self, running: Running, environment: Mapping[str, str], state: State) -> None:
        self._running = running
        self.state = state
        #: Of every process that runs here.
        self.environment = environment
        self.redis = redis.Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True)
        self._people: list[int] = []

    def clean(self) -> None:
        """No sale, reservation or order, and no key in stock Redis or in the cache's; people stay."""
        self.redis.flushall()
        redis.Redis.from_url(settings.CACHE_REDIS_URL).flushall()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE inventory_stock, shop_sale, shop_product CASCADE")

    def people(self, count: int) -> list[int]:
        """The ids of that many accounts, the same ones each time."""
        if len(self._people) < count:
            with connection.cursor() as cursor:
                cursor.execute(_MAKE_PEOPLE, [len(self._people), count - 1])
                self._people += [row[0] for row in cursor.fetchall()]
        return self._people[:count]

    def has(self, title: str) -> bool:
        return title in self._running.programs

    def program(self, title: str) -> Program:
        """One of those that were looked for. Raises KeyError when it was not found."""
        return self._running.programs[title]

    @contextmanager
    def apart(self) -> Iterator[None]:
        """All servers are on the processor of the clients meanwhile, and leave the other one to whom they load."""
        family = [pid for name in SERVERS for pid in self._family(name)]
        processors.move(family, (processors.CLIENT,))
        try:
            yield
        finally:
            processors.move([pid for name in SERVERS for pid in self._family(name)], None)

    def _family(self, name: str) -> set[int]:
        """Its processes; none for a server that is not there."""
        with suppress(KeyError):
            return processors.family_of(self._running.pid(name))
        return set()

    @contextmanager
    def hung(self, name: str) -> Iterator[None]:
        """That server takes connections and requests, and answers nothing."""
        pid = self._running.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def keep_running(self, name: str, make: Callable[[], Service]) -> int:
        """The process of this name, ready; started once, and then there to the end of the run."""
        with suppress(KeyError):
            return self._running.pid(name)
        self._running.supervisor.start([replace(make(), name=name)])
        return self._running.pid(name)

    def run(self, service: Service) -> None:
        """An errand, to its end. Raises Broken when it fails."""
        self._running.supervisor.run(service)

    def worker(self, name: str, arguments: Sequence[str]) -> Service:
        """Python with these arguments, ready as soon as its WORKER_READY_FILE is there."""
        ready = Path(self.environment["STATE"]) / f"{name}.ready"
        return Service(
            name=name,
            command=[sys.executable, *arguments],
            environment={**self.environment, "WORKER_READY_FILE": str(ready)},
            folder=CHECKOUT,
            ready_file=ready,
            niceness=processes.BEHIND,  # as the shop's worker
        )

    @contextmanager
    def running(self, service: Service) -> Iterator[int]:
        """The process of this service, ready, and gone afterwards. Raises Broken when it does not get ready."""
        self._running.supervisor.start([service])
        try:
            yield self._running.pid(service.name)
        finally:
            self._running.supervisor.end(service.name)


_MAKE_PEOPLE = """
    INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active,
                           date_joined)
    SELECT 'person-' || number, '!', '', '', '', false, false, true, now() FROM generate_series(%s, %s) AS number
 RETURNING id
"""


@contextmanager
def open_house(say: Callable[[str], object], besides: Sequence[Kind] = ()) -> Iterator[House]:
    """Start the servers, make the database and tell Django; stop and remove everything afterwards, whatever happens.

    Raises Refusal or Broken when a server cannot be had. Once a process, because Django reads its settings once.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # end like Ctrl-C, which stops the servers
    remove_what_killed_runs_left()
    state = State(shared_temp() / f"{PREFIX}bench-{secrets.token_hex(4)}")
    try:
        with state.locked():
            running = start_all(state, say=say, durable=True, environ=clean_environment(), besides=besides)
            try:
                yield House(running, _settle(state, running), state)
            finally:
                connection.close()
                running.stop()
    finally:
        state.remove()


def _settle(state: State, running: Running) -> dict[str, str]:
    """The environment of everything that runs here, and a Django that has read it and made its tables."""
    environment = {
        **clean_environment(),
        **TEST_VARIABLES,
        **running.environment,
        **state.generated_secrets(),
        "STATE": str(state.path),
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "LOG_LEVEL": "ERROR",
    }
    os.environ.clear()
    os.environ.update(environment)
    django.setup()
    call_command("migrate", verbosity=0)
    return environment
