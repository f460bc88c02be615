"""What stands behind the edge in its tests: a real granian process that says what arrived, and does what the sale's
name asks for."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

#: Seconds that a slow answer takes: long enough to be killed in the middle of.
SLOW_SECONDS = 30

_numbers = itertools.count(1)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Each answer has a number: two of the same number are one answer that was kept."""
    path = environ["PATH_INFO"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    said = {
        "lane": os.environ["LANE"],
        "number": f"{os.getpid()}-{next(_numbers)}",
        "path": path,
        "body_bytes": len(environ["wsgi.input"].read(length)),
        "headers": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
    }
    if path.startswith("/sales/slow/"):
        time.sleep(SLOW_SECONDS)
    if path.startswith("/sales/dies/"):
        os.kill(os.getpid(), signal.SIGKILL)
    status = "503 Service Unavailable" if path.startswith("/sales/broken/") else "200 OK"
    start_response(status, _headers(path))
    return [json.dumps(said).encode()]


def _headers(path: str) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", "application/json"),
        ("X-Server-Now-Ms", "1"),
        ("X-Request-Id", "of-the-lane"),
        ("Cache-Control", "no-store" if path.startswith("/sales/private/") else "no-cache"),
        ("Vary", "Cookie, Accept-Language, Accept-Encoding"),
        ("ETag", '"of-this-page"'),
    ]
    return [*headers, ("Set-Cookie", "lang=en")] if path.startswith("/sales/baker/") else headers
