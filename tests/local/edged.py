"""A real nginx with two real granian lanes behind it, in a state folder of its own; the application is `echo`."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shop import edge_pages
from shop.local import edge, processes
from shop.local.accounts import service_account
from shop.local.edge import Edge, lane_socket
from shop.local.options import Options
from shop.local.pings import http_answers
from shop.local.programs import NGINX, Program
from shop.local.servers import start_all
from shop.local.service import Service
from shop.local.state import State
from shop.local.supervisor import Supervisor
from tests.free_ports import free_port
from tests.servers import clean_environment

HOST = "shop.example"
#: Seconds an answer may take on a busy machine.
TIMEOUT_SECONDS = 20
GENERATION = 1


def nginx(told: Mapping[str, str], state: State) -> Program:
    """Found as `make up` finds it; the servers are those of this run."""
    running = start_all(state, lambda _: None, environ={**clean_environment(), **told}, besides=[NGINX])
    return running.programs[NGINX.title]


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def header(self, name: str) -> str:
        """The one header of that name; empty when there is none. Fails when there are several."""
        found = self.all(name)
        assert len(found) < 2, found
        return found[0] if found else ""

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class EdgedLanes:
    """`changed` replaces words of the configuration, `variables` are those of `make up`."""

    def __init__(
        self,
        program: Program,
        state: State,
        changed: Mapping[str, str] | None = None,
        lanes: tuple[str, ...] = processes.LANES,
        **variables: str,
    ) -> None:
        self.state = state
        self.port = free_port()
        self.options = Options.read({"PORT": str(self.port), **variables})
        self.environment = {
            "PORT": str(self.port),
            "SHOP_URL": f"http://{HOST}",
            "RATE_LIMIT_EXEMPT": "127.0.0.0/8",
            **variables,
        }
        self.edge = Edge.of(program, state, service_account())
        self.static = state.path / "static"
        self.static.mkdir(mode=0o755, exist_ok=True)
        edge_pages.write(self.edge.pages)
        self.edge.configure(self.options, self.environment, self.static)
        self._change(changed or {})
        self.supervisor = Supervisor(state, lambda _: None)
        self._start(lanes)

    def _change(self, changed: Mapping[str, str]) -> None:
        text = self.edge.configuration.read_text()
        for old, new in changed.items():
            assert old in text, f"{old} is not in the configuration"
            text = text.replace(old, new)
        self.edge.configuration.write_text(text)

    def _start(self, lanes: tuple[str, ...]) -> None:
        self.supervisor.start([self._lane(name) for name in lanes])
        for name in lanes:
            edge.point_to(self.edge.sockets, name, GENERATION)
        service = self.edge.service(self.environment)
        listens = (lambda: http_answers(self.port, "/livez", HOST)) if lanes else self._listens
        self.supervisor.start([replace(service, is_ready=listens)])

    def _lane(self, name: str) -> Service:
        variables = {**clean_environment(), **self.environment}
        service = processes.lane(name, variables, self.options, lane_socket(self.edge.sockets, name, GENERATION))
        return replace(service, command=[*service.command[:-1], "tests.local.echo:application"])

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port)).close()
        return True

    def stop(self) -> None:
        self.supervisor.stop()

    # --- asking

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own. Names of headers are written with `_`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body=body, headers={"Host": HOST, **named})
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def raw(self, request: bytes) -> Answer:
        """Bytes as nobody's library would send them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return Answer(answer.status, answer.getheaders(), answer.read())

    def pages_folder(self) -> Path:
        return self.edge.pages
