"""The express lane: the few requests that make a spike, answered without Django's machinery.

    granian -> ExpressLane -> a view of `hot` -> header list and bytes
                          \\-> everything else, and whatever looks odd: the door, and Django behind it

No session, no middleware, no SQL. The views are the same that Django's URLs name, so words, statuses and checks are the
same in both lanes; what Django's middleware adds to every answer is asked of it once, when the process starts.

There is no waiting room, because an answer takes microseconds: who waits, waits in granian's queue, and who has waited
too long there, by the stamp of the edge, is turned away as at the door.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from resilience import deadline, degradation
from resilience.clock import now_ms
from resilience.degradation import Level
from resilience.lateness import Lateness
from resilience.log_lines import relabel
from shop import buyers, criticality, replies, words
from shop.answer_times import times_of
from shop.asked import Asked, is_foreign, request_id
from shop.at_hand import at_hand
from shop.chances import SALES
from shop.criticality import Importance
from shop.degraded import Kind
from shop.door import REQUEST_SECONDS, Door, budgets, rank_of, waited_ms
from shop.hot import Hot
from shop.postgresql.base import give_back
from shop.replies import Reply
from shop.views import purchase, reservation, storefront

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
#: The view of a hot address, its name, how much it matters, and what the address says.
Route = tuple[Hot, str, Importance, dict[str, str]]

#: What an address of a sale ends with -> its view, the name that `urls.py` gives it, and how much it matters.
OF_SALE: dict[str, tuple[Hot, str, Importance]] = {
    "": (storefront.sale, "sale", Importance.LOOKING),
    "state": (storefront.state, "state", Importance.LOOKING),
    "mine": (storefront.mine, "mine", Importance.LOOKING),
    "ticket": (purchase.ticket, "ticket", Importance.BUYING),
    "buy": (purchase.buy, "buy", Importance.BUYING),
}
RESERVATIONS = "/reservations/"
#: Names under which the shop has been asked for and may be; more of them are only looked at anew.
HOSTS_REMEMBERED = 64
#: Addresses of sales that are remembered, and the characters of one: there are five for each sale.
ADDRESSES_REMEMBERED, ADDRESS_CHARACTERS = 1_024, 100

_SLUG = re.compile(r"[-a-zA-Z0-9_]+")  # Django's
_RESERVATION = re.compile(r"[!-.0-~]+")  # plain characters but a slash: the view knows what a name is
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
#: Headers of a Django answer that belong to that answer alone.
_ITS_OWN = {"content-type", "content-length", "cache-control", "x-request-id", "x-server-now-ms", "content-language"}

logger = logging.getLogger(__name__)


def route(path: str) -> Route | None:
    """None for all addresses but the hot ones."""
    if path.startswith(SALES):
        return _of_sale(path) if len(path) <= ADDRESS_CHARACTERS else _of_sale.__wrapped__(path)
    if path.startswith(RESERVATIONS) and _RESERVATION.fullmatch(path, len(RESERVATIONS)):
        return reservation.status, "reservation", Importance.FOLLOWING, {"reservation_id": path[len(RESERVATIONS) :]}
    if path == "/":
        return storefront.sales, "sales", Importance.BROWSING, {}
    return None


@lru_cache(ADDRESSES_REMEMBERED)
def _of_sale(path: str) -> Route | None:
    """A micro-second, of the twenty that the live state takes: a few addresses are asked for all the time."""
    slug, slash, verb = path[len(SALES) :].partition("/")
    return (*OF_SALE[verb], {"slug": slug}) if slash and verb in OF_SALE and _SLUG.fullmatch(slug) else None


class ExpressLane:
    """A WSGI application. `door` is the one behind it, and `django` what is behind that."""

    def __init__(self, django: Application, door: Door) -> None:
        self._door = door
        self.lateness = Lateness(budgets(), lane="express")
        self._common = _headers_of_every_answer(django)
        self._but_vary = [(name, value) for name, value in self._common if name != "Vary"]
        self._hosts: dict[str, bool] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found = route(environ["PATH_INFO"])
        if found is None or not self._is_ours(environ, found[2]):
            return self._door(environ, start_response)

        started = time.perf_counter()
        has_come = self._door.receive(environ)
        asked = Asked(environ, environ["wsgi.input"].read, request_id(environ))
        waited = waited_ms(environ)
        if not has_come or self._is_too_late(asked, found[2], waited):
            return self._door.turn_away(Kind.BUSY, asked, start_response)
        with deadline.within(REQUEST_SECONDS - waited / 1000):
            reply = _reply(asked, found)
        times_of(found[1], environ["REQUEST_METHOD"], reply.status).observe(time.perf_counter() - started)
        start_response(_STATUS_LINES[reply.status], self._headers(asked, reply))
        return [reply.body]

    def _is_ours(self, environ: Environ, importance: Importance) -> bool:
        """False for what Django refuses before it looks at the address, and for what this level has given up."""
        level = degradation.current.situation.level
        if level >= Level.SHED and (level >= Level.STATIC or importance <= Importance.LOOKING):
            return False
        return self._is_host(environ.get("HTTP_HOST", ""))

    def _is_too_late(self, asked: Asked, importance: Importance, waited: int) -> bool:
        """By the milliseconds that it has waited, which nobody knows where no edge stamps when a request came."""
        if not at_hand.TRUSTED_PROXIES:
            return False
        if waited and importance is Importance.BUYING:
            importance = rank_of(importance, asked.path, asked.cookies.get(buyers.COOKIE))
        return self.lateness.refuses(importance, waited / 1000, partial(_shard_of, asked))

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


def _shard_of(asked: Asked) -> int:
    return criticality.shard_of(asked.cookies.get(buyers.COOKIE), asked.environ)


def _reply(asked: Asked, found: Route) -> Reply:
    """What the view answers; our fault when it breaks."""
    view, _, _, parts = found
    environ = asked.environ
    relabel(request=asked.id, **({"sale": parts["slug"]} if "slug" in parts else {}))
    try:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and is_foreign(environ, environ.get("HTTP_HOST", "")):
            return words.reply(asked, "CROSS_SITE")
        return view.reply(asked, **parts)
    except Exception:
        logger.exception("%s %s broke", environ["REQUEST_METHOD"], asked.path)
        return words.reply(asked, "ERROR")
    finally:
        give_back()  # a poll may have asked PostgreSQL


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
