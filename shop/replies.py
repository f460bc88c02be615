"""What a request is answered with, before anybody has made it an HTTP response: a status, headers and bytes."""

import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.http import HttpResponse
from django.utils.http import http_date

from shop.at_hand import at_hand

HTML, JSON = "text/html; charset=utf-8", "application/json"
#: Of whatever is somebody's own, or of this moment.
NEVER_KEPT = ("Cache-Control", "no-store")
#: Of pages that are the same for everybody in a language.
VARY = ("Vary", "Cookie, Accept-Language, Accept-Encoding")


#: What `json.dumps` looks up at each call.
encode = json.JSONEncoder().encode


@dataclass(slots=True)
class Reply:
    """`headers` are those of this answer alone; what all answers carry is added at the door. One cookie at most."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)

    def for_django(self) -> HttpResponse:
        response = HttpResponse(self.body, status=self.status, content_type=self.content_type)
        for name, value in self.headers:
            if name == "Set-Cookie":
                response.cookies.load(value)
            else:
                response[name] = value
        return response


def of_json(fields: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, encode(fields).encode(), JSON, [NEVER_KEPT])


def see_other(url: str) -> Reply:
    """303: look there, by GET."""
    return Reply(303, b"", HTML, [("Location", url), NEVER_KEPT])


def cookie(name: str, value: str, seconds: int, path: str = "/") -> tuple[str, str]:
    """A header that no script can read and no other site can send. The value is one of our sealed records."""
    ends = _date(int(time.time()) + seconds)
    secure = "; Secure" if at_hand.HTTPS else ""
    return (
        "Set-Cookie",
        f"{name}={value}; expires={ends}; HttpOnly; Max-Age={seconds}; Path={path}; SameSite=Lax{secure}",
    )


@lru_cache(8)  # of this second and the next ones, for each life of a cookie
def _date(second: int) -> str:
    """2 us each: a thousand clicks of a second share one."""
    return http_date(second)
