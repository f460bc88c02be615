"""When to stop: Ctrl-C, TERM, a closed terminal, or the end of the `make` that started us."""

import os
import signal
from collections.abc import Mapping
from types import FrameType

#: Ctrl-C, `kill`, and what a terminal sends when its window is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """False until somebody wants us to stop; then true for good. Further signals change nothing.

    The handlers are installed even where a signal was ignored: a shell starts background jobs with SIGINT ignored.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._asked = False
        # `kill` reaches make and not us; make's end is the only sign we get.
        self._parent = os.getppid() if environ.get("MAKELEVEL") else None
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def __call__(self) -> bool:
        return self._asked or (self._parent is not None and os.getppid() != self._parent)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
