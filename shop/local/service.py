"""What is to run: a description that knows nothing of pids."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shop.local.accounts import Account


def at_once() -> bool:
    """The readiness of a process that nobody waits for."""
    return True


@dataclass(frozen=True, kw_only=True)
class Service:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    account: Account | None = None

    #: Asked again and again after a start, by the service's own protocol. May raise OSError, which means "not yet".
    is_ready: Callable[[], bool] = at_once
    #: A file that the service writes when it is ready; removed before each start, so that an old one says nothing.
    ready_file: Path | None = None
    #: The signal that this program takes as "finish what you do, then go".
    stop_signal: signal.Signals = signal.SIGTERM

    #: A server holds data: one that outlives a killed supervisor is taken over instead of being started again.
    is_server: bool = False
    #: How far it gives way, once it is ready, when there are not processors enough (`precedence.py`).
    niceness: int = 0
    socket: Path | None = None

    def ready(self) -> bool:
        try:
            return (self.ready_file is None or self.ready_file.exists()) and self.is_ready()
        except OSError:
            return False
