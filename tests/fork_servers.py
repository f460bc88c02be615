"""Processes that are forked, in some twenty milliseconds, from one that has imported what they need."""

import threading
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from unittest import mock

#: Python asks for the server of forks by a name in its module, which is ours for a moment.
_starting = threading.Lock()


class ForkServer:
    """One with its own environment and imports. Python's module has a single one, whose processes would all see the
    servers of whichever test started it."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(list(preload))

    def run(self) -> None:
        """Start it now, with the environment as it is; otherwise its first process does."""
        self._server.ensure_running()

    def start(self, process: ForkServerProcess) -> None:
        with _starting, mock.patch.object(forkserver, "connect_to_new_process", self._server.connect_to_new_process):
            process.start()

    def stop(self) -> None:
        self._server._stop()  # type: ignore[attr-defined]
