"""A process in a session of its own: started by us, or left behind by a supervisor that was killed."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from shop.local import precedence
from shop.local.accounts import as_account
from shop.local.identity import birth
from shop.local.ledger import Entry
from shop.local.logs import Log
from shop.local.service import Service

#: Seconds a process may take to finish before its whole group is killed.
GRACE_SECONDS = 15
#: Seconds between two looks while waiting for a process.
LOOK_SECONDS = 0.01
#: Seconds the kernel may take to remove a process after SIGKILL.
KILL_SECONDS = 5


class Child:
    def __init__(self, entry: Entry, process: subprocess.Popen[bytes] | None = None) -> None:
        self.entry = entry
        self._process = process

    @classmethod
    def start(cls, service: Service, log: Log) -> "Child":
        """Start the service. Raises OSError when its program cannot be run."""
        if service.ready_file:
            service.ready_file.unlink(missing_ok=True)
        with log.open() as output:
            process = subprocess.Popen(
                service.command,
                env=service.environment,
                cwd=service.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # else Ctrl-C reaches the databases before the web server has finished
                **as_account(service.account),
            )
        entry = Entry(
            service.name,
            process.pid,
            birth(process.pid),
            list(service.command),
            str(service.socket or ""),
            service.stop_signal,
        )
        return cls(entry, process)

    def give_way(self, niceness: int) -> None:
        """Let others go before it and what it has started, from now on."""
        if niceness:
            precedence.give_way(self.entry.pid, niceness)

    def ending(self) -> str | None:
        """How the process ended, in words; None while it runs."""
        if self._process is None:
            return None if self.entry.lives() else "ended"
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            return f"was ended by signal {-status} ({signal.strsignal(-status)})"
        return f"ended with status {status}"

    @property
    def succeeded(self) -> bool:
        return self._process is not None and self._process.poll() == 0

    def send(self, number: int) -> None:
        """Signal the process, if it is still the one we mean."""
        if self.ending() is None:
            with suppress(ProcessLookupError):
                os.kill(self.entry.pid, number)

    def sweep(self) -> None:
        """Kill what is left of the session: a worker that has lost its parent would hold the port for ever."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.entry.pid, signal.SIGKILL)


def stop_together(children: Sequence[Child], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask each child to finish, last one first, and kill the groups of those that do not. Returns when all are gone."""
    for child in reversed(children):
        child.send(child.entry.stop_signal)
    _wait_for_end(children, grace_seconds)
    for child in children:
        child.sweep()
    _wait_for_end(children, KILL_SECONDS)


def _wait_for_end(children: Sequence[Child], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(child.ending() is None for child in children) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
