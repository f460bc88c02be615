"""A forked child of a test: it does one thing, says how that went, and never outlives the test."""

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress

from tests.crowd import eventually


def works_in_a_fork(do: Callable[[], object]) -> bool:
    """Whether it came to an end in a child that is forked now, without an error. One that hangs fails the test."""
    child = os.fork()
    if child == 0:
        _end_with(do)
    ended: list[int] = []
    try:
        eventually(lambda: ended or ended.extend(_ended(child)) or ended)
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return ended == [0]


def _end_with(do: Callable[[], object]) -> None:
    """Without what pytest does at the end of a process."""
    try:
        do()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> list[int]:
    pid, status = os.waitpid(child, os.WNOHANG)
    return [os.waitstatus_to_exitcode(status)] if pid else []
