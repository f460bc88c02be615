"""What a person reads while it runs. A terminal that is gone is no reason to stop working, or to stop stopping."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

#: What a closed terminal, a closed pipe and a closed file raise.
GONE = (OSError, ValueError)
BOLD, DIM, RED, PLAIN = "\033[1m", "\033[2m", "\033[31m", "\033[0m"


class Voice:
    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._colour = _is_terminal(stream)

    @property
    def elapsed(self) -> float:
        return self._clock() - self._start

    def step(self, text: str) -> None:
        """One line with the seconds since the start."""
        loud = text.startswith("!")
        self.line(f"{self._paint(DIM, f'{self.elapsed:6.1f} s')}  {self._paint(RED, text) if loud else text}")

    def title(self, text: str) -> None:
        self.line(self._paint(BOLD, text))

    def line(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except GONE:
            self._let_go()

    def _let_go(self) -> None:
        """What is left in the buffer of a stream that is gone would raise again when Python ends: exit status 120."""
        if self._stream is not None:
            with suppress(*GONE), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(*GONE):
        return stream is not None and stream.isatty()
    return False
