"""The shop that a load meets: one of our own with its own state, or somebody else's."""

import json
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shop.local.accounts import shared_temp
from shop.local.refusal import Broken
from shop.local.state import State, read_values
from shop.local.tools import CHECKOUT
from tests.servers import PREFIX, remove_what_killed_runs_left
from tests.stories.running_shop import Command, RunningShop


class OwnShop:
    """A whole `make up`, on a free port, with nothing of anybody else's in it."""

    def __init__(self, running: RunningShop) -> None:
        self.running = running
        self.url = running.url

    @property
    def environment(self) -> dict[str, str]:
        """Where its servers are, as a second terminal would read it."""
        return read_values(self.running.state / "env")

    @property
    def secrets(self) -> dict[str, str]:
        return read_values(self.running.state / "secrets")

    def manage(self, *arguments: str) -> str:
        """What a `manage.py` command printed. Raises Broken when it failed."""
        ran = self._run(*arguments)
        if ran.returncode:
            raise Broken(f"manage.py {' '.join(arguments)}: {ran.stderr or ran.stdout}")
        return ran.stdout

    def verify(self, sale: str) -> list[dict[str, Any]]:
        """What `manage.py verify` finds broken."""
        ran = self._run("verify", sale, "--json")
        try:
            return list(json.loads(ran.stdout)["broken"])
        except (ValueError, KeyError) as error:
            raise Broken(f"manage.py verify {sale}: {ran.stderr or ran.stdout}") from error

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.running.manage(*arguments)

    def pid(self, name: str) -> int:
        """The process that has this part now. Raises Broken when there is none."""
        for entry in self.running.book():
            if entry["name"] == name:
                return int(entry["pid"])
        raise Broken(f"no process {name} runs")

    def last_words(self, name: str, lines: int = 20) -> str:
        """The end of a process's log."""
        log = self.running.state / "log" / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


@contextmanager
def own_shop(
    say: Callable[[str], object], variables: Mapping[str, str] | None = None, folder: Path = CHECKOUT
) -> Iterator[OwnShop]:
    """Started, ready to sell, and gone with its data afterwards. Raises Broken when it does not come up.

    `folder` is another checkout of this project to start it from.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # end like Ctrl-C, which stops the shop
    remove_what_killed_runs_left()
    state = State(shared_temp() / f"{PREFIX}load-{secrets.token_hex(4)}")
    command = Command(environment=dict(variables or {}), folder=folder)
    running = None
    try:
        say("starting a shop of its own (half a minute the first time)")
        try:
            running = RunningShop(state.path, command)
        except AssertionError as failed:
            raise Broken(f"the shop did not come up: {failed}") from failed
        yield OwnShop(running)
    finally:
        if running:
            running.stop()
        state.path.with_name(f"{state.path.name}.out").unlink(missing_ok=True)
        state.remove()
