"""A real supervisor in a process of its own, with witnesses as its children: `supervised.py STATE PLAN`.

The plan is JSON: `{"servers": false, "groups": [[{"name": "web", "habits": ["lingers"], "stop": "TERM"}]]}`.
"""

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from shop.local import supervisor as supervisor_module
from shop.local.refusal import Broken, Refusal
from shop.local.service import Service
from shop.local.state import State
from shop.local.stopping import StopRequest
from shop.local.supervisor import StopAsked, Supervisor
from shop.local.voice import Voice

WITNESS = Path(__file__).with_name("witness.py")


def witness(state: State, name: str, habits: list[str], stop: str = "TERM", server: bool = False) -> Service:
    """A service that writes into `diary` of the state folder."""
    promised = [habit.partition("=")[2] for habit in habits if habit.startswith(("ready=", "late="))]
    return Service(
        name=name,
        command=[sys.executable, "-IS", str(WITNESS), name, str(state.path / "diary"), *habits],
        ready_file=Path(promised[0]) if promised else None,
        stop_signal=signal.Signals[f"SIG{stop}"],
        is_server=server,
    )


def run(state: State, plan: dict[str, Any], voice: Voice) -> None:
    supervisor = Supervisor(state, voice.step, StopRequest())
    try:
        with suppress(StopAsked):
            if plan.get("servers"):
                from shop.local.servers import start_all  # brings the clients of databases, slow to import

                start_all(state, voice.step, durable=False, supervisor=supervisor)
            for group in plan["groups"]:
                supervisor.start([witness(state, **child) for child in group])
            voice.line("ready")
            supervisor.watch()
    finally:
        supervisor.stop()


def main(state_path: str, plan_text: str) -> int:
    plan = json.loads(plan_text)
    supervisor_module.READY_SECONDS = plan.get("ready_seconds", supervisor_module.READY_SECONDS)
    supervisor_module.FIRST_PAUSE_SECONDS = 0.01  # the tests need the number of pauses and not their length
    try:
        state = State(state_path)
        with state.locked():
            run(state, plan, Voice(sys.stdout))
    except (Broken, Refusal) as error:
        Voice(sys.stderr).line(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
