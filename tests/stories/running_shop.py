"""`manage.py up` as a newcomer runs it: own state folder, a free port, and nothing left afterwards."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shop.demo_people import SHOPPER_PASSWORD
from tests.crowd import eventually
from tests.free_ports import free_port
from tests.servers import clean_environment
from tests.stories.browser import Browser

ROOT = Path(__file__).parents[2]
#: Seconds from the command to `ready`, on a machine that is busy with other things and downloads everything.
READY_SECONDS = 180
#: Seconds from the signal to the end of the last process.
STOP_SECONDS = 40


@dataclass(frozen=True)
class Command:
    """How the shop is started: in which folder, with what environment of its own, and as whom."""

    up: list[str] = field(default_factory=lambda: [sys.executable, "manage.py", "up"])
    manage: list[str] = field(default_factory=lambda: [sys.executable, "manage.py"])
    folder: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None

    def how(self, **variables: str) -> dict[str, Any]:
        """The arguments of Popen."""
        identity = {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}
        return {"cwd": self.folder, "env": {**clean_environment(), **self.environment, **variables}, **identity}


class RunningShop:
    """One `manage.py up`. Starts at once; `stop` or `kill` ends it."""

    def __init__(self, state: Path, command: Command | None = None) -> None:
        self.state, self.log = state, state.parent / f"{state.name}.out"
        self.command = command or Command()
        self.pids: set[int] = set()
        self.start()

    def start(self) -> None:
        how = self.command.how(STATE=str(self.state), PORT=str(free_port()))
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                self.command.up, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, **how
            )
        eventually(self._ready_or_dead, READY_SECONDS)
        assert "\nready in" in self.output, self.output
        found = re.search(r"shop +(http://\S+?)/?\s", self.output)
        assert found, self.output
        self.url = found[1]
        self.note_pids()

    def note_pids(self) -> None:
        """Remember who runs now, for `left_over`."""
        self.pids |= {entry["pid"] for entry in self.book()}

    def book(self) -> list[dict[str, Any]]:
        """What the supervisor has written down of its processes."""
        return list(json.loads((self.state / "up.json").read_text()))

    @property
    def output(self) -> str:
        return self.log.read_text()

    def _ready_or_dead(self) -> bool:
        return "\nready in" in self.output or self.process.poll() is not None

    def browser(self) -> Browser:
        return Browser(self.url)

    def signed_in(self, name: str = "shopper1") -> Browser:
        browser = self.browser()
        page = browser.sign_in(name, SHOPPER_PASSWORD)
        assert page.status == 200, f"{name} was not let in: {page.status} {page.body[:500]}"
        return browser

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A second terminal: knows nothing but the state folder."""
        how = self.command.how(STATE=str(self.state))
        return subprocess.run(
            [*self.command.manage, *arguments],
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
            **how,
        )

    def reload(self) -> subprocess.CompletedProcess[str]:
        """`make reload` in a second terminal."""
        command = [sys.executable, "-m", "shop.local.reloading"]
        how = self.command.how(STATE=str(self.state))
        return subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS, check=False, **how)

    def kill(self) -> None:
        """kill -9 on the supervisor: it can put nothing in order."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask for the end, unless it has come already; answers the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def left_over(self) -> list[str]:
        """What is still there of all that was ever started: processes, and the lock on the state folder."""
        alive = [f"process {pid}: {_ps(pid, 'args')}" for pid in sorted(self.pids) if runs(pid)]
        with (self.state / "up.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive.append("the lock on the state folder")
        return alive


def runs(pid: int) -> bool:
    """True for a process that has not ended; one that waits to be buried has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _ps(pid, "stat").startswith("Z")


def _ps(pid: int, column: str) -> str:
    shown = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
