"""`make up` before there is a shop: what it reads, what it refuses, what it prints. The shop itself: tests/stories."""

import io
import json
import os
import pty
import re
import socket
import subprocess
import sys

import pytest

from shop.local import up
from shop.local.options import Options
from shop.local.ports import LAST_PORT, HeldPort, address_in_the_lan
from shop.local.refusal import Refusal
from shop.local.servers import Running
from shop.local.service import Service
from shop.local.state import State, read_values
from shop.local.supervisor import Supervisor
from shop.local.surroundings import Ports, settle, variables
from shop.local.voice import Voice
from tests.free_ports import free_port
from tests.local.conftest import CHECKOUT, Up
from tests.local.waiting import PATIENCE_SECONDS
from tests.servers import clean_environment

# --- bad input


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"PORT": "http"}, "PORT must be a port from 1 to 65535, not 'http'"),
        ({"PORT": "0"}, "PORT must be a port from 1 to 65535, not '0'"),
        ({"PORT": "65536"}, "PORT must be a port from 1 to 65535, not '65536'"),
        ({"PORT": "-1"}, "PORT must be a port from 1 to 65535, not '-1'"),
        ({"PORT": ""}, "PORT must be a port from 1 to 65535, not ''"),
        ({"PORT": "８０００"}, "PORT must be a port from 1 to 65535, not '８０００'"),
        ({"PROVIDER_PORT": "x"}, "PROVIDER_PORT must be a port from 1 to 65535, not 'x'"),
        ({"WORKERS": "0"}, "WORKERS must be a whole number from 1, not '0'"),
        ({"WORKERS": "two"}, "WORKERS must be a whole number from 1, not 'two'"),
        ({"EDGE": "maybe"}, "EDGE must be on or off, not 'maybe'"),
        ({"TRUSTED_PROXIES": "-1"}, "TRUSTED_PROXIES must be a whole number from 0 to 9, not '-1'"),
        ({"TRUSTED_PROXIES": "10"}, "TRUSTED_PROXIES must be a whole number from 0 to 9, not '10'"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(variables: dict[str, str], line: str) -> None:
    """With the variable, what it may be and what it is."""
    with pytest.raises(Refusal) as refusal:
        Options.read(variables)
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"PORT": "http"}, "PORT must be a port"),
        ({"STATE": "/dev/null/state"}, "the state folder /dev/null/state cannot be used: Not a directory"),
        ({"DATABASE_URL": "postgresql://shop@127.0.0.1:1/shop"}, "DATABASE_URL answers nothing: "),
    ],
)
def test_bad_input_is_one_line_and_status_2_with_nothing_started(
    up: Up, state: State, variables: dict[str, str], line: str
) -> None:
    """One clear line on stderr for each thing that the caller has to change."""
    process = up(**variables)

    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS * 3)

    assert process.returncode == 2
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1
    assert "ready" not in stdout
    assert not state.ledger.exists() or json.loads(state.ledger.read_text()) == []
    assert not list(state.path.glob("redis-*"))


def test_a_second_up_hears_who_was_first(up: Up, state: State) -> None:
    """Status 2, and the first one is not disturbed."""
    with state.locked():
        process = up()
        stderr = process.communicate(timeout=PATIENCE_SECONDS * 3)[1]

    assert process.returncode == 2
    assert f"already running on {state.path}, as process {os.getpid()}" in stderr


# --- ports


def test_a_busy_port_gives_way_to_the_next_one_out_loud(up: Up) -> None:
    """The first line says which one it is instead."""
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()

        process = up(PORT=str(port))

        assert process.stdout is not None
        told = re.search(rf"port {port} is busy, using (\d+)", process.stdout.readline())
        assert told
        assert int(told[1]) > port


def test_a_web_process_that_a_killed_up_left_gives_its_port_back(up: Up, state: State) -> None:
    """It is stopped before the port is looked at: the shop keeps its address."""
    port = free_port()
    code = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.BaseHTTPRequestHandler).serve_forever()"

    def listens() -> bool:
        socket.create_connection(("127.0.0.1", port)).close()
        return True

    Supervisor(state).start([Service(name="web", command=[sys.executable, "-c", code], is_ready=listens)])

    process = up(PORT=str(port))

    assert process.stdout is not None
    assert "postgresql" in process.stdout.readline()


def test_a_held_port_is_busy_for_everybody_else() -> None:
    """Two shops that start at the same time must not share a port, which granian would allow."""
    first = HeldPort("127.0.0.1", 18_000)
    second = HeldPort("127.0.0.1", first.number)
    assert second.number > first.number

    first.release()
    third = HeldPort("127.0.0.1", first.number)
    assert third.number == first.number
    for port in (second, third):
        port.release()


def test_a_shared_port_is_free_for_processes_of_ours_alone() -> None:
    """Also before they listen, and while they are dead; and what comes for the port goes to them."""
    ours = HeldPort("127.0.0.1", 18_000)
    ours.share()
    somebody = HeldPort("127.0.0.1", ours.number)

    assert somebody.number > ours.number
    with socket.socket() as process:
        process.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        process.bind(("127.0.0.1", ours.number))
        process.listen()
        with socket.create_connection(("127.0.0.1", ours.number)) as client:
            taken, address = process.accept()
            assert address == client.getsockname()
            taken.close()
    for port in (ours, somebody):
        port.release()


def test_the_ports_end_at_65535() -> None:
    """No port after the last one: a clear line instead of an OverflowError."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", LAST_PORT))
        taken.listen()
        with pytest.raises(Refusal, match="no free port from 65535 on: choose another PORT"):
            HeldPort("127.0.0.1", LAST_PORT)


# --- the environment of the shop


def held(options: Options, environ: dict[str, str]) -> Ports:
    ports = Ports.hold(options, environ)
    ports.release()
    return ports


def test_the_provider_gets_the_port_after_the_shops(state: State) -> None:
    """And both addresses are written down for a second terminal."""
    options = Options.read({"PORT": "18100"})
    ports = held(options, {})

    made = variables(options, state, ports, {})

    assert made["SHOP_URL"] == f"http://127.0.0.1:{made['PORT']}"
    assert made["PROVIDER_URL"] == f"http://127.0.0.1:{made['PROVIDER_PORT']}"
    assert int(made["PROVIDER_PORT"]) > int(made["PORT"])
    assert made["PROFILE"] == "local"
    assert made["STATE"] == str(state.path)


def test_a_variable_of_the_caller_wins(state: State) -> None:
    """Somebody else's provider is not started, a public name is kept, a key of one's own signs."""
    mine = {"PROVIDER_URL": "https://pay.example", "ALLOWED_HOSTS": "shop.example", "SECRET_KEY": "k" * 50}
    options = Options.read({"PORT": "18200"})

    made = variables(options, state, held(options, mine), mine)
    environment = settle(state, made, mine)

    assert made["PROVIDER_URL"] == "https://pay.example"
    assert "PROVIDER_PORT" not in made
    assert environment["ALLOWED_HOSTS"] == "shop.example"
    assert environment["SECRET_KEY"] == "k" * 50


def test_the_second_terminal_reads_the_variables_but_no_secret_among_them(state: State) -> None:
    """`env` holds addresses, `secrets` holds keys; the shop sees both, and nothing that would bend an address."""
    caller = {"PATH": "/bin", "PGPORT": "5433", "http_proxy": "http://proxy.example"}
    options = Options.read({"PORT": "18300"})

    environment = settle(state, variables(options, state, held(options, {}), {}), caller)

    written = read_values(state.environment)
    assert "SECRET_KEY" not in written
    assert written.items() <= environment.items()
    assert state.generated_secrets().items() <= environment.items()
    assert "PGPORT" not in environment
    assert "127.0.0.1" in environment["no_proxy"]


def test_lan_opens_the_shop_to_phones(state: State) -> None:
    """It listens on all addresses and calls itself by the one that others can reach."""
    options = Options.read({"PORT": "18400", "LAN": "1"})
    made = variables(options, state, held(options, {}), {})

    address = address_in_the_lan()
    assert options.host == "0.0.0.0"
    assert made["SHOP_URL"].startswith(f"http://{address}:")
    assert made["PROVIDER_URL"].startswith(f"http://{address}:")
    assert address in made["ALLOWED_HOSTS"].split(",")
    assert Options.read({"LAN": "0"}).host == "127.0.0.1"


# --- what it prints


def test_each_step_has_the_seconds_since_the_start() -> None:
    """One line a step, without colours where no terminal is."""
    stream, times = io.StringIO(), iter([10.0, 12.5])
    Voice(stream, clock=lambda: next(times)).step("redis is ready")
    assert stream.getvalue() == "   2.5 s  redis is ready\n"


def test_colours_are_for_terminals() -> None:
    """A file stays readable."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        Voice(terminal).step("!!! loud")
        assert b"\033[31m!!! loud" in os.read(ours, 100)
    os.close(ours)


def test_a_start_imports_neither_django_nor_locust() -> None:
    """Before there are servers there are no settings; and locust patches sockets when it is imported."""
    code = (
        "import sys, shop.local.up, tests.servers; print({'django', 'celery', 'locust', 'gevent'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=clean_environment(), capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr


def test_the_tests_have_servers_of_their_own(servers: Running, state: State) -> None:
    """Not those of a running `make up`, and not those of the developer's shell."""
    assert os.environ["PROFILE"] == "test"
    for name, url in servers.environment.items():
        assert os.environ[name] == url
        assert "/seckill-" in url


# --- a reload


def test_a_reload_that_breaks_leaves_the_shop_as_it_is(state: State) -> None:
    """Also in a way that nobody thought of: `up` is older than the files that it reads then."""

    class NewerThanUp:
        """What `front` meets when a template asks for more than this process knows."""

        environment: dict[str, str] = {}

        def renew(self, _supervisor: object) -> None:
            raise KeyError("a field of tomorrow")

    class Prepares:
        def run(self, _service: Service) -> None:
            pass

    said = io.StringIO()

    up._reload(NewerThanUp(), Prepares(), state, Voice(said))  # type: ignore[arg-type]

    assert "not reloaded: KeyError('a field of tomorrow')" in said.getvalue()
    assert read_values(state.path / "reloads")["failure"] == "KeyError('a field of tomorrow')"
