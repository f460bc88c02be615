"""A request as both doors see it, read from the WSGI environment when somebody asks: Django's views get it from Django,
the express lane makes it by itself, and what they are told is the same."""

import random
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, parse_cookie
from django.utils import translation
from django.utils.functional import cached_property  # which has no lock, as Python's has before 3.12
from django.utils.http import parse_header_parameters

_REQUEST_ID = re.compile(r"\A[A-Za-z0-9_-]{8,64}\Z")
#: Bits of a request's id that is made here: no two are alike, and nothing depends on nobody guessing one.
REQUEST_ID_BITS = 128
#: Pairs of lang cookie and Accept-Language that are remembered: browsers send a few dozen, attackers any number.
LANGUAGES_REMEMBERED = 1_024
#: Characters of such a pair; what is longer is understood anew each time.
LANGUAGE_CHARACTERS = 200
#: Kinds of bodies that are remembered, and the characters of one: clients send a handful.
KINDS_REMEMBERED, KIND_CHARACTERS = 64, 100
#: Asked for in each request, and nobody changes it.
_LANGUAGE_COOKIE = settings.LANGUAGE_COOKIE_NAME


def request_id(environ: dict[str, Any]) -> str:
    """The client's own when it is a decent one, else a new one."""
    offered = environ.get("HTTP_X_REQUEST_ID")
    return offered if offered and _REQUEST_ID.match(offered) else f"{random.getrandbits(REQUEST_ID_BITS):032x}"


def is_foreign(environ: dict[str, Any], host: str) -> bool:
    """Whether a page of another site made the browser send this."""
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        return True
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and _host_of(origin) != host


def _host_of(origin: str) -> str | None:
    """Host and port; None for what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


class Asked:
    """One request. `read` answers at most so many bytes of its body, once."""

    def __init__(
        self, environ: dict[str, Any], read: Callable[[int], bytes], name: str, language: str | None = None
    ) -> None:
        self.environ = environ
        self.id = name
        self.read = read
        if language:
            self.language = language

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """What Django has understood of it; one for each request, however often it is asked for. Until LocaleMiddleware
        has chosen a language, this thread still speaks that of the request before."""
        known: Self | None = getattr(request, "asked", None)
        if known is None:
            name, chosen = getattr(request, "id", ""), getattr(request, "LANGUAGE_CODE", None)
            known = cls(request.META, lambda _most: request.body, name, chosen)
            request.asked = known  # type: ignore[attr-defined]
        return known

    @property
    def path(self) -> str:
        return str(self.environ["PATH_INFO"])

    @property
    def wants_page(self) -> bool:
        """People's browsers ask for HTML; programs, and our own scripts, do not."""
        return "text/html" in self.environ.get("HTTP_ACCEPT", "")

    @cached_property
    def cookies(self) -> dict[str, str]:
        sent = self.environ.get("HTTP_COOKIE")
        return parse_cookie(sent) if sent else {}

    @cached_property
    def language(self) -> str:
        """One of those that there are pages in."""
        cookie = self.cookies.get(_LANGUAGE_COOKIE, "")
        accepted = self.environ.get("HTTP_ACCEPT_LANGUAGE", "")
        if len(cookie) + len(accepted) > LANGUAGE_CHARACTERS:
            return _language_of.__wrapped__(cookie, accepted)
        return _language_of(cookie, accepted)

    @cached_property
    def content_type(self) -> tuple[str, dict[str, str]]:
        """The kind of the body, in small letters, and its parameters."""
        said = self.environ.get("CONTENT_TYPE", "")
        return _kind_of(said) if len(said) <= KIND_CHARACTERS else _kind_of.__wrapped__(said)


@lru_cache(KINDS_REMEMBERED)
def _kind_of(said: str) -> tuple[str, dict[str, str]]:
    kind, parameters = parse_header_parameters(said)
    return kind, parameters


@lru_cache(LANGUAGES_REMEMBERED)
def _language_of(cookie: str, accepted: str) -> str:
    """As Django reduces them: the cookie's, else the first accepted one that we speak, else English."""
    request = HttpRequest()
    request.COOKIES[_LANGUAGE_COOKIE] = cookie
    request.META["HTTP_ACCEPT_LANGUAGE"] = accepted
    return translation.get_language_from_request(request)
