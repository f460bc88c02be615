"""`make up`: the whole flash sale on this machine, until Ctrl-C. Exit status 2: change something first; 1: it broke.

options -> state folder, locked -> ports, held -> servers -> prepare -> lanes, worker, provider ... -> edge -> watch
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from shop.demo_people import SHOPPER_PASSWORD, SHOPPERS, STAFF_NAME, STAFF_PASSWORD
from shop.local import processes, servers, surroundings
from shop.local.accounts import service_account
from shop.local.edge import Edge
from shop.local.front import EdgeAndLanes, Front, OneProcess
from shop.local.options import Options
from shop.local.programs import NGINX, Program
from shop.local.refusal import Broken, Refusal
from shop.local.reloading import ReloadRequest, tell
from shop.local.state import State
from shop.local.stopping import StopRequest
from shop.local.supervisor import StopAsked, Supervisor
from shop.local.surroundings import Ports
from shop.local.voice import Voice


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Run until somebody stops it. Returns the exit status; whatever it is, nothing is left running."""
    stop_asked = StopRequest(environ)  # first of all: a signal during the start must find its handler
    reload_asked = ReloadRequest()
    voice = Voice(sys.stdout)
    try:
        options = Options.read(environ)
        state = State(options.state)
        with state.locked():
            _run(options, state, Supervisor(state, voice.step, stop_asked), voice, environ, reload_asked)
    except Refusal as refusal:
        Voice(sys.stderr).line(str(refusal))
        return 2
    except Broken as broken:
        Voice(sys.stderr).line(str(broken))
        return 1
    return 0


def _run(
    options: Options,
    state: State,
    supervisor: Supervisor,
    voice: Voice,
    environ: Mapping[str, str],
    reload_asked: ReloadRequest,
) -> None:
    try:
        with suppress(StopAsked):
            ports, front = _start(options, state, supervisor, voice, environ)
            supervisor.watch(lambda: _reload(front, supervisor, state, voice) if reload_asked() else None)
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
) -> tuple[Ports, Front]:
    supervisor.stop_left_over(keep=list(servers.SERVERS))  # the web process of a killed run still has its port
    ports = Ports.hold(options, environ)
    if ports.shop.number != options.port:
        voice.step(f"port {options.port} is busy, using {ports.shop.number}")

    besides = [NGINX] if options.edge else []
    running = servers.start_all(state, voice.step, supervisor=supervisor, environ=environ, besides=besides)
    made = running.environment | surroundings.variables(options, state, ports, environ)
    environment = surroundings.settle(state, made, environ)

    front = _front(running.programs.get(NGINX.title), options, state, environment, voice)

    supervisor.run(processes.prepare(front.environment))
    voice.step("shop          database, static files and demo are prepared")

    ports.share()
    supervisor.start(processes.application(front.environment, front.services(), state.path))
    front.open(supervisor)
    _tell_ready(voice, options, state, made["SHOP_URL"])
    return ports, front


def _front(
    nginx: Program | None, options: Options, state: State, environment: Mapping[str, str], voice: Voice
) -> Front:
    if nginx:
        voice.step(f"{'edge':12}  {nginx}, {nginx.origin}")
        edge = Edge.of(nginx, state, service_account())
        return EdgeAndLanes(edge, options, environment, state.path / "static")
    reason = "nginx not found" if options.edge else "EDGE=off"
    voice.step(f"{'edge':12}  none ({reason}): one process serves everything")
    return OneProcess(options, environment)


def _reload(front: Front, supervisor: Supervisor, state: State, voice: Voice) -> None:
    """The code as it is now on the disk, in new processes; in the old ones when those do not come up."""
    voice.step("reload: the old processes serve until the new ones are ready")
    try:
        supervisor.run(processes.prepare(front.environment))
        front.renew(supervisor)
        for name in processes.RESTARTED_BY_RELOAD:
            supervisor.restart(name)
    except Exception as failure:  # of whatever kind: `up` is older than what it reads here, and the sale goes on
        said = str(failure) if isinstance(failure, (Broken, Refusal)) else repr(failure)
        voice.step(f"not reloaded: {said}")
        tell(state, said)
    else:
        voice.step("reloaded")
        tell(state)


def _tell_ready(voice: Voice, options: Options, state: State, url: str) -> None:
    voice.title(f"ready in {voice.elapsed:.1f} s")
    voice.line(f"  shop    {url}/{'     for phones in this network, too' if options.lan else ''}")
    voice.line(f"  admin   {url}/admin/     {STAFF_NAME} / {STAFF_PASSWORD}")
    voice.line(f"  people  shopper1 ... shopper{SHOPPERS}, password: {SHOPPER_PASSWORD}")
    voice.line(f"  Ctrl-C stops everything; the data stay in {_short(state.path)}")


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
