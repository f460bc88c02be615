"""Waiting for a condition instead of sleeping for luck."""

import time
from collections.abc import Callable

#: Seconds until a condition must hold: far more than it takes, for machines that do something else meanwhile.
PATIENCE_SECONDS = 10
LOOK_SECONDS = 0.01


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
