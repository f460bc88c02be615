"""The door as granian serves it, and behind it an application that a test can hold up: `behind_the_door:application`.

A request for `.../held` writes a file `came` into the folder HOLDING and answers when there is one called `go`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

import django

django.setup()

from resilience import deadline  # noqa: E402  after the settings, which it reads
from shop.door import Door, rooms  # noqa: E402  the same

HOLDING = Path(os.environ["HOLDING"])
#: Seconds after which a test that broke lets go.
HELD_MAXIMUM_SECONDS = 30.0
#: Parts and bytes of one, of an answer that no line takes at once.
PARTS, PART = 64, b"x" * 1_000_000


class Streamed:
    """Made while it is sent."""

    streaming = True

    def __iter__(self) -> Iterator[bytes]:
        return iter([PART] * PARTS)

    def close(self) -> None:
        (HOLDING / "closed").touch()


def behind(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/livez":
        answer: Any = str(rooms().public.is_full)
    elif path.endswith("/held"):
        _hold()
        answer = "held"
    elif path.endswith("/broken"):
        raise RuntimeError("broken on purpose")
    elif path.endswith("/streamed"):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return Streamed()
    else:
        answer = f"{len(environ['wsgi.input'].read())} {deadline.left_seconds():.1f}"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer.encode()]


def _hold() -> None:
    (HOLDING / "came").touch()
    until = time.monotonic() + HELD_MAXIMUM_SECONDS
    while not (HOLDING / "go").exists() and time.monotonic() < until:
        time.sleep(0.01)


application = Door(behind)
