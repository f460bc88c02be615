"""A client that comes through the express lane, to compare what both lanes answer."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseBase
from django.test import Client
from django.test.client import ClientHandler

from shop.door import Door
from shop.express import ExpressLane

#: Each answer has its own.
ITS_OWN = ("x-request-id", "x-server-now-ms")
#: What differs between two answers to the same question: the request's id on a page.
_REQUEST_CODE = re.compile(rb"<code>[A-Za-z0-9_-]{8,64}</code>")


class ThroughExpress(Client):
    """`last_lane` says which one answered last."""

    last_lane = ""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"HTTP_HOST": "testserver"} | how)  # browsers always say one, and Django's client does not
        self.handler = _Handler(self)


class _Handler(ClientHandler):
    def __init__(self, client: ThroughExpress) -> None:
        super().__init__(enforce_csrf_checks=False)  # as Django's own client
        self._client = client

    def __call__(self, environ: dict[str, Any]) -> HttpResponseBase:
        by_django: list[HttpResponseBase] = []

        def otherwise(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
            by_django.append(ClientHandler.__call__(self, environ))
            return []

        heard: list[Any] = []
        lane = _lane()
        lane._door = _Behind(lane._door, otherwise)
        body = b"".join(lane(environ, lambda *said: heard.extend(said)))
        self._client.last_lane = "pages" if by_django else "express"
        return by_django[0] if by_django else _response(environ, *heard, body)


class _Behind(Door):
    """A door that lets everybody in, to an application that the test has."""

    def __init__(self, door: Door, otherwise: Any) -> None:
        self.__dict__ |= door.__dict__ | {"_otherwise": otherwise}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return list(self._otherwise(environ, start_response))


@cache
def _lane() -> ExpressLane:
    django = get_wsgi_application()
    return ExpressLane(django, Door(django))


def _response(environ: dict[str, Any], status: str, headers: list[tuple[str, str]], body: bytes) -> HttpResponse:
    # A server sends no body to who asked for the head alone.
    response = HttpResponse(b"" if environ["REQUEST_METHOD"] == "HEAD" else body, status=int(status[:3]))
    del response["Content-Type"]
    for name, value in headers:
        if name == "Set-Cookie":
            response.cookies.load(value)
        else:
            assert name not in response, f"{name} twice"
            response[name] = value
    response.wsgi_request = WSGIRequest(environ)  # type: ignore[attr-defined]
    return response


def shown(answer: Any) -> tuple[int, dict[str, str], dict[str, str], bytes]:
    """All of an answer that must not depend on the lane: status, headers, cookies, body."""
    headers = {name.lower(): value for name, value in answer.items() if name.lower() not in ITS_OWN}
    if "vary" in headers:
        headers["vary"] = ", ".join(sorted(headers["vary"].split(", ")))
    cookies = {name: morsel.OutputString() for name, morsel in answer.cookies.items()}
    return answer.status_code, headers, cookies, _REQUEST_CODE.sub(b"<code></code>", answer.content)
