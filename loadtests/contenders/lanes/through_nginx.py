"""Page and state as the edge answers them, beside nginx itself with a body of the same size."""

from dataclasses import replace
from pathlib import Path

from loadtests.contenders.lanes import prepared
from loadtests.contenders.lanes.hot import same_for_all, sizes
from loadtests.contenders.lanes.measuring import loaded, must_be_refused
from loadtests.contenders.lanes.serving import PINNED, Server
from loadtests.contenders.lanes.wrk import run
from loadtests.figures import Sample
from loadtests.house import House
from shop import edge_pages
from shop.local import edge, processes
from shop.local.accounts import own_folder, service_account
from shop.local.edge import Edge
from shop.local.options import Options
from shop.local.pings import http_answers
from shop.local.programs import NGINX
from shop.local.service import Service
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

GENERATION = 1
#: Connections of clients: more than at the lanes, because nginx is there for them.
CONNECTIONS = 128
#: Of the answers, those that a page's cache may have refused while its first bytes were fetched: none.
NONE = 0

_ports: dict[str, int] = {}


#: Buyers who poll through the edge.
POLLERS = 2_000


class ThroughNginx:
    """`what`: an empty address for the page, or `state`, from the micro-cache; or `poll`, which is passed on."""

    def __init__(self, house: House, what: str) -> None:
        self._house, self._what = house, what

    def measure(self, seconds: float) -> list[Sample]:
        server = _edge(self._house)
        requests = self._requests()
        with self._house.apart():
            run(self._house.program("wrk"), server.port, requests, 1)  # the lanes and the micro-cache know it then
        ran, samples = loaded(self._house, server, requests, seconds, CONNECTIONS)
        must_be_refused(ran, NONE, self._what or "page")
        return [*samples, *sizes(ran.bytes, ran.requests, ran.seconds)]

    def _requests(self) -> list[bytes]:
        [(offer_id, slug)] = prepared.offers_on_sale(1).items()
        if self._what == "poll":
            return prepared.polls(offer_id, POLLERS)
        return [same_for_all(slug, self._what)]


class NginxItself:
    """`return 200`, with as many bytes as the answer that it stands beside."""

    def __init__(self, house: House, what: str) -> None:
        self._house, self._what = house, what

    def measure(self, seconds: float) -> list[Sample]:
        [slug] = prepared.offers_on_sale(1).values()
        edge_server = _edge(self._house)
        with self._house.apart():
            beside = run(self._house.program("wrk"), edge_server.port, [same_for_all(slug, self._what)], 1)
        server = _itself(self._house, self._what or "page", beside.bytes // beside.requests)
        ran, samples = loaded(self._house, server, [prepared.get("/")], seconds, CONNECTIONS)
        must_be_refused(ran, NONE, "nginx itself")
        return [*samples, *sizes(ran.bytes, ran.requests, ran.seconds)]


def _edge(house: House) -> Server:
    """nginx on the servers' processor; its lanes are on the other, because hardly anything reaches them."""
    port = _ports.setdefault("edge", free_port())
    options = Options.read({"PORT": str(port)})
    environment = {**house.environment, "PORT": str(port), "SHOP_URL": f"http://127.0.0.1:{port}"}
    program = house.program(NGINX.title)
    made = Edge.of(program, house.state, service_account())
    edge_pages.write(made.pages)
    static = house.state.path / "static"
    static.mkdir(exist_ok=True)
    made.configure(options, environment, static)
    for name in processes.LANES:
        socket = edge.lane_socket(made.sockets, name, GENERATION)
        house.keep_running(
            f"edge-{name}", lambda name=name, socket=socket: processes.lane(name, environment, options, socket)
        )
        edge.point_to(made.sockets, name, GENERATION)
    service = made.service(environment)
    pid = house.keep_running("edge", lambda: _pinned(service))
    return Server(port, pid, house.state.path / "edge.sql")


def _itself(house: House, name: str, size: int) -> Server:
    name = f"nginx-{name}"
    port = _ports.setdefault(name, free_port())
    account = service_account()
    folder = own_folder(house.state.data_home(account) / name, account, mode=0o755)
    configuration = folder / "nginx.conf"
    configuration.write_text(_constant(folder, port, size, f"user {account.name};" if account else ""))
    program = house.program(NGINX.title)
    service = Service(
        name=name,
        command=[str(program.path), "-e", "stderr", "-p", str(folder), "-c", str(configuration)],
        environment=program.environment,
        is_ready=lambda: http_answers(port, "/", "127.0.0.1"),
    )
    return Server(port, house.keep_running(name, lambda: _pinned(service)), folder / "sql")


#: Characters in one parameter of nginx's configuration; a longer body is several of them.
PART = 3_000


def _constant(folder: Path, port: int, size: int, user: str) -> str:
    """The same settings for connections as the edge has."""
    parts = ["x" * min(PART, size - at) for at in range(0, size, PART)]
    sets = "".join(f"set $part{number} {part};" for number, part in enumerate(parts))
    body = "".join(f"$part{number}" for number in range(len(parts)))
    unused = "".join(f"{kind}_temp_path {folder}/unused;" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
        {user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
        events {{ worker_connections 4096; multi_accept on; }}
        http {{
            access_log off; keepalive_requests 100000; client_body_temp_path {folder}/unused; {unused}
            server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {sets} return 200 "{body}"; }} }}
        }}
    """


def _pinned(service: Service) -> Service:
    return replace(service, command=[*PINNED, *service.command], folder=CHECKOUT)
