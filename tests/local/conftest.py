"""A state folder for each test, and a supervisor in a process of its own to send signals to."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shop.local.accounts import shared_temp
from shop.local.ledger import left_over
from shop.local.state import State
from shop.local.supervisor import Supervisor
from tests.local.waiting import PATIENCE_SECONDS, eventually
from tests.servers import PREFIX, clean_environment

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def state() -> Iterator[State]:
    """Beside the folders of the test runs, and so cleaned up by the next run if this one is killed."""
    state = State(shared_temp() / f"{PREFIX}{secrets.token_hex(4)}")
    yield state
    Supervisor(state).stop_left_over()
    state.remove()


class Stage:
    """A supervisor in a process of its own, and the diary of its children."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.process: subprocess.Popen[str] | None = None

    def command(self, *groups: list[dict[str, Any]], **plan: Any) -> list[str]:
        text = json.dumps({"groups": groups, **plan})
        return [sys.executable, "-m", "tests.local.supervised", str(self.state.path), text]

    def start(self, *groups: list[dict[str, Any]], prefix: tuple[str, ...] = (), **plan: Any) -> "Stage":
        """Start it with these groups of witnesses; `prefix` is a command that runs it."""
        self.process = popen([*prefix, *self.command(*groups, **plan)])
        return self

    def until(self, line: str) -> str:
        """Read what it prints until a line contains these words."""
        assert self.process is not None
        assert self.process.stdout is not None
        for printed in self.process.stdout:
            if line in printed:
                return printed
        raise AssertionError(f"it ended without saying {line!r}: {self.process.communicate()[1]}")

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the end. Returns the exit status and what it said on stderr."""
        assert self.process is not None
        stderr = self.process.communicate(timeout=PATIENCE_SECONDS * 3)[1]
        return self.process.returncode, stderr

    def stop(self) -> tuple[int, str]:
        self.send(signal.SIGTERM)
        return self.end()

    @property
    def diary(self) -> list[str]:
        """`name word` in the order in which it happened."""
        return [entry.rpartition(" ")[0] for entry in self._entries]

    def pids(self, name: str) -> list[int]:
        """The processes that have borne this name, in order."""
        return [int(entry.split()[2]) for entry in self._entries if entry.startswith(f"{name} started ")]

    def have_started(self, times: int, *names: str) -> bool:
        return all(len(self.pids(name)) == times for name in names)

    @property
    def _entries(self) -> list[str]:
        path = self.state.path / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def everybody_is_gone(self) -> bool:
        """No witness lives, and nothing is written down as running."""
        pids = [int(entry.split()[2]) for entry in self._entries]
        return not any(lives(pid) for pid in pids) and not left_over(self.state.ledger)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def popen(command: list[str], **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**clean_environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def stage(state: State) -> Iterator[Stage]:
    stage = Stage(state)
    yield stage
    if stage.process and stage.process.poll() is None:
        stage.process.kill()
        stage.process.wait()
    assert eventually(lambda: stage.process is None or stage.process.poll() is not None)


Up = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def up(state: State) -> Iterator[Up]:
    """`manage.py up` on the test's state folder, with variables."""
    started: list[subprocess.Popen[str]] = []

    def start(**variables: str) -> "subprocess.Popen[str]":
        code = "import sys; from shop.local.up import main; sys.exit(main())"
        process = popen([sys.executable, "-c", code], **{"STATE": str(state.path), **variables})
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=PATIENCE_SECONDS * 3)
