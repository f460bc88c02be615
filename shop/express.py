"""The express lane: the few requests that make a spike, answered without Django's machinery.

    granian -> ExpressLane -> a view of `hot` -> header list and bytes
                          \\-> everything else, and whatever looks odd: the door, and Django behind it

No session, no middleware, no SQL. The views are the same that Django's URLs name, so words, statuses and checks are the
same in both lanes; what Django's middleware adds to every answer is asked of it once, when the process starts.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from resilience import deadline, degradation
from resilience.clock import now_ms
from resilience.log_lines import relabel
from shop import replies, words
from shop.answer_times import times_of
from shop.asked import Asked, is_foreign, request_id
from shop.hot import Hot
from shop.replies import Reply
from shop.views import purchase, reservation, storefront

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Route = tuple[Hot, str, dict[str, str]]

#: Seconds from the arrival of a request until nobody waits for its answer any more.
REQUEST_SECONDS = 1.0
#: What an address of a sale ends with -> its view, and the name that `urls.py` gives it.
OF_SALE: dict[str, tuple[Hot, str]] = {
    "": (storefront.sale, "sale"),
    "state": (storefront.state, "state"),
    "mine": (storefront.mine, "mine"),
    "ticket": (purchase.ticket, "ticket"),
    "buy": (purchase.buy, "buy"),
}
SALES, RESERVATIONS = "/sales/", "/reservations/"
#: Names under which the shop has been asked for and may be; more of them are only looked at anew.
HOSTS_REMEMBERED = 64

_SLUG = re.compile(r"[-a-zA-Z0-9_]+")  # Django's
_RESERVATION = re.compile(r"[!-.0-~]+")  # plain characters but a slash: the view knows what a name is
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
#: Headers of a Django answer that belong to that answer alone.
_ITS_OWN = {"content-type", "content-length", "cache-control", "x-request-id", "x-server-now-ms", "content-language"}

logger = logging.getLogger(__name__)


def route(path: str) -> Route | None:
    """The view of a hot address, its name and what the address says; None for all others."""
    if path.startswith(SALES):
        slug, slash, verb = path[len(SALES) :].partition("/")
        if slash and verb in OF_SALE and _SLUG.fullmatch(slug):
            return (*OF_SALE[verb], {"slug": slug})
    elif path.startswith(RESERVATIONS) and _RESERVATION.fullmatch(path, len(RESERVATIONS)):
        return reservation.status, "reservation", {"reservation_id": path[len(RESERVATIONS) :]}
    elif path == "/":
        return storefront.sales, "sales", {}
    return None


class ExpressLane:
    """A WSGI application. `otherwise` is the one behind it, and `django` what is behind that."""

    def __init__(self, django: Application, otherwise: Application) -> None:
        self._otherwise = otherwise
        self._common = _headers_of_every_answer(django)
        self._but_vary = [(name, value) for name, value in self._common if name != "Vary"]
        self._hosts: dict[str, bool] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found = route(environ["PATH_INFO"])
        if found is None or not self._is_ours(environ):
            return self._otherwise(environ, start_response)

        started = time.perf_counter()
        asked = Asked(environ, environ["wsgi.input"].read, request_id(environ))
        with deadline.within(REQUEST_SECONDS):
            reply = _reply(asked, found)
        times_of(found[1], environ["REQUEST_METHOD"], reply.status).observe(time.perf_counter() - started)
        start_response(_STATUS_LINES[reply.status], self._headers(asked, reply))
        return [reply.body]

    def _is_ours(self, environ: Environ) -> bool:
        """False for what Django refuses before it looks at the address, and while only static pages are left."""
        return degradation.current.situation.level < degradation.Level.STATIC and self._is_host(
            environ.get("HTTP_HOST", "")
        )

    def _is_host(self, host: str) -> bool:
        known = self._hosts.get(host)
        if known is None:
            known = validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS)
            if len(self._hosts) < HOSTS_REMEMBERED:
                self._hosts[host] = known
        return known

    def _headers(self, asked: Asked, reply: Reply) -> list[tuple[str, str]]:
        return [
            *reply.headers,
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Content-Language", asked.language),
            ("X-Request-Id", asked.id),
            ("X-Server-Now-Ms", str(now_ms())),
            *(self._but_vary if replies.VARY in reply.headers else self._common),
        ]


def _reply(asked: Asked, found: Route) -> Reply:
    """What the view answers; our fault when it breaks."""
    view, _, parts = found
    environ = asked.environ
    relabel(request=asked.id, **({"sale": parts["slug"]} if "slug" in parts else {}))
    try:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and is_foreign(environ, environ["HTTP_HOST"]):
            return words.reply(asked, "CROSS_SITE")
        return view.reply(asked, **parts)
    except Exception:
        logger.exception("%s %s broke", environ["REQUEST_METHOD"], asked.path)
        return words.reply(asked, "ERROR")


def _headers_of_every_answer(django: Application) -> list[tuple[str, str]]:
    """Whatever its middleware adds to an answer that is nothing but headers."""
    given: list[tuple[str, str]] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/livez",
        "SCRIPT_NAME": "",
        "SERVER_NAME": settings.ALLOWED_HOSTS[0].lstrip(".*") or "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "https" if settings.HTTPS else "http",
        "wsgi.input": BytesIO(),
    }
    django(environ, lambda _status, headers, *_: given.extend(headers))
    return [(name, value) for name, value in given if name.lower() not in _ITS_OWN]
