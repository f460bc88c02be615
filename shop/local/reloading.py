"""`make reload`: the new code serves without a request being lost. Asked for by a signal, told by a file.

make reload -> USR1 -> up: prepare -> new lanes beside the old -> switch -> worker, beat anew -> `reloads` -> told
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

from shop.local.options import Options
from shop.local.refusal import Refusal
from shop.local.state import State, read_values, write_values
from shop.local.voice import Voice

#: Seconds that a reload may take: as long as a start.
PATIENCE_SECONDS = 180
#: Seconds between two looks whether it has been done.
LOOK_SECONDS = 0.05


class ReloadRequest:
    """True once for each time that somebody asks; several who ask at the same moment get one reload."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGUSR1, self._remember)

    def __call__(self) -> bool:
        asked, self._asked = self._asked, False
        return asked

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


def tell(state: State, failure: str = "") -> None:
    """Write down that one more reload is over, for whoever waits. A full disk is no reason to stop selling."""
    with suppress(Refusal):
        write_values(_book(state), {"count": str(_count(state) + 1), "failure": failure.partition("\n")[0]})


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Ask the running `up` for a reload and wait for it. Exit status 2: nothing runs; 1: the old code serves on."""
    try:
        state = State(Options.read(environ).state)
        before = _count(state)
        os.kill(_pid(state), signal.SIGUSR1)
        failure = _outcome(state, before)
    except Refusal as refusal:
        Voice(sys.stderr).line(str(refusal))
        return 2
    if failure:
        Voice(sys.stderr).line(f"not reloaded, the old code serves on: {failure}")
        return 1
    Voice(sys.stdout).line("reloaded")
    return 0


def _pid(state: State) -> int:
    holder = state.holder()
    if holder is None:
        raise Refusal(f"nothing runs on {state.path}: `make up` starts it")
    return holder


def _outcome(state: State, before: int) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _count(state) == before:
        if time.monotonic() > deadline:
            raise Refusal(f"no answer within {PATIENCE_SECONDS} s: look at what `make up` prints")
        _pid(state)
        time.sleep(LOOK_SECONDS)
    return read_values(_book(state)).get("failure", "")


def _count(state: State) -> int:
    return int(read_values(_book(state)).get("count", "0"))


def _book(state: State) -> Path:
    return state.path / "reloads"


if __name__ == "__main__":
    sys.exit(main())
