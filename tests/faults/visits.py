"""One request over real HTTP and what came of it, by the clock; and the time that the machine itself took away."""

import http.client
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds a client of these tests waits at all; a miss of the bar is told with its length, and not as a broken socket.
PATIENCE_SECONDS = 12.0
#: Seconds between two ticks of the stall meter.
TICK_SECONDS = 0.005
#: Characters of an answer that a complaint shows.
SHOWN_CHARACTERS = 300
#: Where Linux counts the microseconds in which something that could run found no processor.
PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0 when none came. `seconds` from the first byte sent to the last one heard, `stalled` those of them in
    which the machine did not run what could have run."""

    status: int
    headers: HTTPMessage
    text: str
    seconds: float
    stalled: float

    @property
    def is_page(self) -> bool:
        return self.headers.get_content_type() == "text/html"

    def __str__(self) -> str:
        spoken = " ".join(self.text.split())[:SHOWN_CHARACTERS]
        return f"{self.status} after {self.seconds:.3f} s ({self.stalled:.3f} s stalled): {spoken}"


def visit(port: int, request: Request, meter: "StallMeter") -> Answer:
    """A connection of its own, as each shopper has."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    started, stalled = time.monotonic(), meter.seconds
    status, headers, text = 0, HTTPMessage(), ""
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        answer = connection.getresponse()
        status, headers, text = answer.status, answer.headers, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        text = repr(error)
    finally:
        connection.close()
    return Answer(status, headers, text, time.monotonic() - started, meter.seconds - stalled)


class StallMeter:
    """Counts the seconds that the machine did not run what could have run: `with StallMeter() as meter:`.

    Two witnesses, of whom the worse counts: how late a thread of this process wakes up, on any system; and Linux's own
    account of work that waited for a processor, wherever on the machine.
    """

    def __init__(self) -> None:
        self._late = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="stall-meter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return max(self._late, _pressed())

    def _tick(self) -> None:
        due = time.monotonic() + TICK_SECONDS
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self._late += max(0.0, now - due)
            due = now + TICK_SECONDS


def _pressed() -> float:
    """Linux's account since the machine's start; 0 where none is kept."""
    with suppress(OSError, ValueError, IndexError):
        return int(PRESSURE.read_text().split("\n")[0].rpartition("total=")[2]) / 1_000_000
    return 0.0
