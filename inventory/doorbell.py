"""Rings that wake a worker. A ring carries no data: losing, repeating or delaying one is harmless.

A request never publishes by itself, because a broker that hangs would hang the request: one side thread of the
process publishes, and what is rung while it is busy becomes one ring more.
"""

import logging
import os
import threading
from collections.abc import Callable

DRAIN = "drain"
SETTLE = "settle"

logger = logging.getLogger(__name__)


class Doorbell:
    """Coalesces rings and hands them to `publish` on its own thread. Errors are dropped: the beat rings too."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._rung: set[str] = set()
        self._something_rung = threading.Condition()
        self._process = 0

    def ring(self, name: str) -> None:
        with self._something_rung:
            self._rung.add(name)
            self._something_rung.notify()
            if self._process != os.getpid():  # the first ring of this process, or of a fork of it
                self._process = os.getpid()
                threading.Thread(target=self._publish_for_ever, name="doorbell", daemon=True).start()

    def _publish_for_ever(self) -> None:
        while True:
            with self._something_rung:
                self._something_rung.wait_for(lambda: self._rung)
                rung, self._rung = self._rung, set()
            for name in sorted(rung):
                try:
                    self._publish(name)
                except Exception as error:
                    logger.warning("the doorbell could not ring %s: %s", name, error)


_bell: Doorbell | None = None


def install(publish: Callable[[str], None] | None) -> None:
    """Say how rings are published in this process; None: not at all."""
    global _bell
    _bell = Doorbell(publish) if publish else None


def ring(name: str) -> None:
    """Wake a worker for DRAIN or SETTLE. Never blocks, never raises."""
    if _bell:
        _bell.ring(name)
