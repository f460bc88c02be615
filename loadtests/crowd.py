"""The client, a process of its own because Locust patches sockets on import; and what it says while it runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests import records
from loadtests.contenders.overload.tally import GOOD_SECONDS
from loadtests.evidence import Witness
from loadtests.figures import percentile
from loadtests.plan import Plan
from loadtests.records import Record, Tail
from shop.local.refusal import Broken
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

#: Seconds between two lines of progress.
PROGRESS_SECONDS = 2.0
#: Seconds beyond the plan in which the client must have ended.
OVERTIME_SECONDS = 60.0
#: Seconds in which workers of other machines must have come.
WORKERS_WAIT_SECONDS = 120
#: Lines of the client's log that are told when it failed.
LAST_LINES = 30


class Crowd:
    """Started when the block begins, gone when it ends. Writes plan.json, records.jsonl, locust.html, client.log."""

    def __init__(self, plan: Plan, cookies: Path, folder: Path, processes: int = 1, workers: int = 0) -> None:
        self._plan, self._folder = plan, folder
        self._file = folder / "records.jsonl"
        self._log = folder / "client.log"
        (folder / "plan.json").write_text(plan.as_json())
        self._file.write_text("")
        self._environment = {
            **os.environ,
            "LOAD_PLAN": str(folder / "plan.json"),
            "LOAD_COOKIES": str(cookies),
            "LOAD_RECORDS": str(self._file),
        }
        port = str(free_port())  # Locust's own is one for the whole machine, and another load may run beside this one
        together = ("--processes", str(processes), "--master-bind-host", "127.0.0.1")
        together += ("--master-bind-port", port, "--master-port", port)
        self._command = [
            *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--host", plan.host),
            *("--exit-code-on-error", "0", "--html", str(folder / "locust.html"), "--loglevel", "WARNING"),
            *(together if processes > 1 and not workers else ()),
            *("--master", "--expect-workers", str(workers), "--expect-workers-max-wait", str(WORKERS_WAIT_SECONDS))
            * (workers > 0),
        ]

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=CHECKOUT,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # whoever looks at the shop meanwhile takes nothing of the client's share
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def watch(self, say: Callable[[str], object], witness: Witness | None = None) -> None:
        """Returns when everybody has gone home. Raises Broken when the client fails or does not end."""
        tail = Tail(self._file)
        deadline = time.monotonic() + self._plan.seconds + OVERTIME_SECONDS + WORKERS_WAIT_SECONDS
        while self._process.poll() is None:
            time.sleep(PROGRESS_SECONDS)
            say(progress(self._plan, list(tail.new()), witness))
            if time.monotonic() > deadline:
                raise Broken(f"the client did not end; the last lines of {self._log}:\n{self._last_lines()}")
        if self._process.returncode:
            raise Broken(f"the client failed ({self._process.returncode}):\n{self._last_lines()}")
        if not self._file.stat().st_size:
            raise Broken(f"the client asked nothing:\n{self._last_lines()}")

    def plan(self) -> Plan:
        """As the client has followed it."""
        return Plan.of((self._folder / "plan.json").read_text())

    def records(self) -> list[Record]:
        return records.read(self._file)

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def progress(plan: Plan, new: list[Record], witness: Witness | None) -> str:
    """One line: the time from the opening, what came of the last requests, and what is left."""
    now_ms = time.time() * 1000 + plan.ahead_ms
    asked = [each for each in new if not each.is_of_the_client]
    served = [each.seconds for each in asked if each.is_served]
    good = sum(seconds <= GOOD_SECONDS for seconds in served)
    refused = sum(each.is_refusal for each in asked)
    p99_ms = 1000 * percentile(served, 0.99) if served else 0.0
    line = (
        f"  T0 {(now_ms - plan.opens_at_ms) / 1000:+6.1f} s  asked {len(asked):5}  good {good:5}  refused {refused:4}"
    )
    line += f"  lost {len(asked) - len(served) - refused:4}  p99 {p99_ms:6.0f} ms"
    if witness and witness.samples:
        last = witness.samples[-1]
        line += f"  left {last.available:5}  held {last.held:5}  sold {last.sold:5}"
    return line
