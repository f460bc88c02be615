"""wrk: so many connections, each of which waits for its answer and asks again: what a server can do at most."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.contenders.overload import processors
from shop.local.programs import Program
from shop.local.tools import CHECKOUT

SCRIPT = Path(__file__).with_name("requests.lua")
CONNECTIONS = 64
#: Seconds beyond the load in which wrk must have read its requests and ended.
OVERTIME_SECONDS = 60
#: How long it waits for an answer.
PATIENCE = "2s"


@dataclass(frozen=True, slots=True)
class Ran:
    requests: int
    seconds: float
    #: Of all answers, head and body.
    bytes: int
    p50_ms: float
    p99_ms: float
    #: Answers of 400 and more.
    refused: int
    #: Connections that broke, and answers that did not come.
    lost: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run(program: Program, port: int, prepared: Sequence[bytes], seconds: float, connections: int = CONNECTIONS) -> Ran:
    """Send these requests in turn, from the client's processor. Raises RuntimeError when wrk fails."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0".join(prepared))
        file.flush()
        ran = subprocess.run(
            [
                *(sys.executable, "-m", processors.__name__, str(processors.CLIENT), str(program.path)),
                *("-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", PATIENCE),
                *("-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", file.name),
            ],
            env=program.environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=seconds + OVERTIME_SECONDS,
        )
    said = ran.stdout.partition("JSON ")[2]
    if ran.returncode or not said:
        raise RuntimeError(f"wrk failed:\n{ran.stdout}{ran.stderr}")
    return Ran(**json.loads(said))
