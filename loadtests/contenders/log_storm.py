"""A hundred thousand errors a second in one process, and what its log, its counts and its processor say about it.

    python -m loadtests.contenders.log_storm 10

is the process in the storm: its errors go the way of all others of the shop, to JSON lines on stderr. On stdout it says
how many there were, and the processor's seconds that they took beyond those of a loop that counts and says nothing.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import django

from loadtests.figures import Sample
from loadtests.house import House
from shop.local.tools import CHECKOUT

ERRORS_A_SECOND = 100_000
#: Errors that come together, so that the pauses between them are long enough to be pauses.
TOGETHER = 100
#: A storm is so many times as long as what else is measured: ten seconds, unless told otherwise.
LENGTH = 5
#: How the log names lines that stand for others, which are no errors themselves.
STANDS_FOR_OTHERS = "lines like this were left out"


class LogStorm:
    """Everything in one run: the figures belong together."""

    def __init__(self, house: House) -> None:
        pass

    def measure(self, seconds: float) -> list[Sample]:
        length = LENGTH * seconds
        ended = subprocess.run(
            [sys.executable, "-m", __name__, str(length)],
            cwd=CHECKOUT,
            env={**os.environ, "LOG_FORMAT": "json"},
            capture_output=True,
            text=True,
            check=True,
        )
        errors, busy_seconds = json.loads(ended.stdout)
        lines = [json.loads(line) for line in ended.stderr.splitlines()]
        return [
            Sample(errors / length, "errors/s"),
            Sample(100 * busy_seconds / length, "%", "of a core"),
            Sample(most_in_a_second(lines), "lines", "most in a second"),
            Sample(abs(errors - told(lines)), "errors", "not accounted for"),
        ]


def told(lines: list[dict[str, Any]]) -> int:
    """Errors that the log tells of, each by a line of its own or by a count."""
    return sum(line.get("left_out", 0) + (STANDS_FOR_OTHERS not in line["message"]) for line in lines)


def most_in_a_second(lines: list[dict[str, Any]]) -> int:
    """Lines of one kind in one second of the clock."""
    return max(Counter((line["logger"], line["level"], line["at"][:19]) for line in lines).values())


def busy_seconds_of(seconds: float, say: Callable[[str, int], object]) -> tuple[int, float]:
    """How many came in so many seconds, and the processor's time that this took."""
    began, count = time.perf_counter(), 0
    busy = time.process_time()
    while (passed := time.perf_counter() - began) < seconds:
        while count < passed * ERRORS_A_SECOND:
            for _ in range(TOGETHER):
                say("the neighbour is away, attempt %d", count)
            count += TOGETHER
        time.sleep(TOGETHER / ERRORS_A_SECOND)
    return count, time.process_time() - busy


def _nothing(template: str, value: int) -> None:
    pass


def main() -> None:
    django.setup()
    seconds = float(sys.argv[1])
    _, empty = busy_seconds_of(seconds, _nothing)
    errors, busy = busy_seconds_of(seconds, logging.getLogger("loadtests.storm").error)
    sys.stdout.write(json.dumps([errors, busy - empty]))


if __name__ == "__main__":
    main()
