"""The pages for when there is no time for pages: busy, paused, back soon, sold out. Rendered once, at the start.

Each is constant bytes, in each language, as a page and as JSON. A page loads itself again after a while that differs
from visitor to visitor, by its script or without; what answers a POST leads back to where the button was, because a
browser that repeats a POST asks its user first. Their style is in them, so that they need nothing else from a server
that is busy; only their script is a file, and they work without it.
"""

import hashlib
import json
import random
import re
from base64 import b64encode
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from shop import words
from shop.asked import Asked
from shop.replies import HTML, JSON

#: Seconds after which a visitor comes back, of which there is a page each: by a quarter more, so that chance decides
#: among several, whatever the mean is.
RETURNS_SECONDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 37, 46, 58, 72, 90)
_BETWEEN_RETURNS = [(sooner + later) / 2 for sooner, later in pairwise(RETURNS_SECONDS)]
#: How much sooner or later than told somebody may be sent back.
SPREAD = (0.5, 1.5)
#: Seconds until a page loads itself when its script should have done it: the script did not come.
SCRIPT_MISSING_FACTOR = 3

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


class Kind(StrEnum):
    """The word of `words.WORDS` that it says, with its status and sentence."""

    BUSY = "BUSY"
    PAUSED = "UNAVAILABLE"
    BACK_SOON = "BACK_SOON"
    SOLD_OUT = "SOLD_OUT"


@dataclass(frozen=True, slots=True)
class Page:
    """What `start_response` takes, and the body. What differs from answer to answer is added to a copy of the list."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


#: Kind, language, whether for people, whether a POST is answered, seconds until they come back.
_Key = tuple[Kind, str, bool, bool, int]


class Pages:
    """All of them: some hundred, two kilobytes each."""

    def __init__(self) -> None:
        languages = [code for code, _ in settings.LANGUAGES]
        self._pages: dict[_Key, Page] = {
            (kind, language, is_page, is_post, seconds): _made(kind, language, is_page, is_post, seconds)
            for kind in Kind
            for language in languages
            for is_page in (True, False)
            for is_post in (True, False)
            for seconds in (RETURNS_SECONDS if words.WORDS[kind].retry else (0,))
        }

    def for_request(self, kind: Kind, asked: Asked, mean_seconds: float) -> Page:
        """In the language and the form that is asked for; whoever asks comes back after so long, more or less."""
        is_post = asked.environ["REQUEST_METHOD"] not in ("GET", "HEAD")
        seconds = drawn(mean_seconds) if words.WORDS[kind].retry else 0
        return self._pages[kind, asked.language, asked.wants_page, is_post, seconds]

    def __iter__(self) -> Iterator[tuple[_Key, Page]]:
        return iter(self._pages.items())


def drawn(mean_seconds: float) -> int:
    """Seconds for one visitor: one of those that there is a page for."""
    return RETURNS_SECONDS[bisect(_BETWEEN_RETURNS, mean_seconds * random.uniform(*SPREAD))]


def _made(kind: Kind, language: str, is_page: bool, is_post: bool, seconds: int) -> Page:
    word = words.WORDS[kind]
    with translation.override(language):
        outcome, detail = words.spoken(kind), str(word.detail)
        if is_page:
            body = _html({"kind": kind.name, "outcome": outcome, "word": word, "is_post": is_post, "seconds": seconds})
        else:
            body = json.dumps({"outcome": outcome, "detail": detail}).encode()
    return Page(
        status=f"{word.status} {HTTPStatus(word.status).phrase}",
        headers=[
            ("Content-Type", HTML if is_page else JSON),
            ("Content-Length", str(len(body))),
            ("Content-Language", language),
            *([("Retry-After", str(seconds))] if seconds else []),
            *([("Content-Security-Policy", _policy(body))] if is_page else []),
            *_ALWAYS,
        ],
        body=body,
    )


def _html(context: dict[str, Any]) -> bytes:
    late = context["seconds"] * SCRIPT_MISSING_FACTOR
    html = render_to_string("shop/degraded.html", {**context, "late_seconds": late})
    return "\n".join(line.strip() for line in html.splitlines() if line.strip()).encode()


def _policy(body: bytes) -> str:
    """Nothing but the page's own style and our scripts."""
    style = _STYLE.search(body)
    assert style, "a degraded page brings its style with it"
    digest = b64encode(hashlib.sha256(style[1]).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; script-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


#: What Django's middleware says of every answer, and that nobody keeps this one.
_ALWAYS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    *(
        [("Strict-Transport-Security", f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains; preload")]
        if settings.SECURE_HSTS_SECONDS
        else []
    ),
]
