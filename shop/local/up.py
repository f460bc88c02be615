"""`make up`: the whole flash sale on this machine, until Ctrl-C. Exit status 2: change something first; 1: it broke.

options -> state folder, locked -> ports, held -> servers -> prepare -> shop, worker, provider ... -> ready -> watch
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from shop.demo_people import SHOPPER_PASSWORD, SHOPPERS, STAFF_NAME, STAFF_PASSWORD
from shop.local import processes, servers, surroundings
from shop.local.options import Options
from shop.local.refusal import Broken, Refusal
from shop.local.state import State
from shop.local.stopping import StopRequest
from shop.local.supervisor import StopAsked, Supervisor
from shop.local.surroundings import Ports
from shop.local.voice import Voice


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Run until somebody stops it. Returns the exit status; whatever it is, nothing is left running."""
    stop_asked = StopRequest(environ)  # first of all: a signal during the start must find its handler
    voice = Voice(sys.stdout)
    try:
        options = Options.read(environ)
        state = State(options.state)
        with state.locked():
            _run(options, state, Supervisor(state, voice.step, stop_asked), voice, environ)
    except Refusal as refusal:
        Voice(sys.stderr).line(str(refusal))
        return 2
    except Broken as broken:
        Voice(sys.stderr).line(str(broken))
        return 1
    return 0


def _run(options: Options, state: State, supervisor: Supervisor, voice: Voice, environ: Mapping[str, str]) -> None:
    try:
        with suppress(StopAsked):
            ports = _start(options, state, supervisor, voice, environ)
            supervisor.watch()
            ports.release()
    finally:
        supervisor.stop()
    voice.line("stopped")


def _start(
    options: Options,
    state: State,
    supervisor: Supervisor,
    voice: Voice,
    environ: Mapping[str, str],
) -> Ports:
    supervisor.stop_left_over(keep=list(servers.SERVERS))  # the web process of a killed run still has its port
    ports = Ports.hold(options, environ)
    if ports.shop.number != options.port:
        voice.step(f"port {options.port} is busy, using {ports.shop.number}")

    running = servers.start_all(state, voice.step, supervisor=supervisor, environ=environ)
    made = running.environment | surroundings.variables(options, state, ports, environ)
    environment = surroundings.settle(state, made, environ)

    supervisor.run(processes.prepare(environment))
    voice.step("shop          database, static files and demo are prepared")

    ports.share()
    supervisor.start(processes.application(environment, options, state.path))
    _tell_ready(voice, options, state, made["SHOP_URL"])
    return ports


def _tell_ready(voice: Voice, options: Options, state: State, url: str) -> None:
    voice.title(f"ready in {voice.elapsed:.1f} s")
    voice.line(f"  shop    {url}/{'     for phones in this network, too' if options.lan else ''}")
    voice.line(f"  admin   {url}/admin/     {STAFF_NAME} / {STAFF_PASSWORD}")
    voice.line(f"  people  shopper1 ... shopper{SHOPPERS}, password: {SHOPPER_PASSWORD}")
    voice.line(f"  Ctrl-C stops everything; the data stay in {_short(state.path)}")


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
