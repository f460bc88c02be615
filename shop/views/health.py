"""Probes: alive, ready, and numbers for Prometheus."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST

from inventory import lag, stock
from inventory.outcomes import InventoryFull
from resilience import deadline, parallel, scraping
from shop.views.methods import takes

#: Seconds a probe waits for all parts together; who probes has a patience of one second in most installations.
ANSWER_SECONDS = 0.8
#: Age at which an event should have been written down long ago: a drain is woken each second, and takes less for it.
BEHIND_MS = 5_000


@takes("GET")
def livez(_request: HttpRequest) -> HttpResponse:
    return JsonResponse({"alive": True})


@takes("GET")
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 while units can be reserved; what else is missing is said, and degrades pages, but does not stop the sale.

    All are asked at the same moment: several that hang take a probe no longer than one, and what has not answered in
    time is down. `recording` is down while PostgreSQL is, behind while an event waits too long, and unknown while Redis
    cannot be asked.
    """
    cache: Any = caches["default"]
    asked: dict[str, Callable[[], object]] = {
        "stock": stock.ready,
        "database": _select_one,
        "cache": cache.ask_redis,
        "memcached": cache.ask_memcached,
    }
    if not settings.MEMCACHED_URLS:
        del asked["memcached"]
    with deadline.within(ANSWER_SECONDS):
        found = parallel.gather(**asked, lag=lag.lag, on_error="collect")

    parts = {"memcached": "off", **{name: _word(found[name]) for name in asked}}
    recording = _recording(found["lag"], database=parts["database"])
    ready = parts["stock"] == "up"
    return JsonResponse({"ready": ready, **parts, **recording}, status=200 if ready else 503)


def _word(answer: object) -> str:
    """Of a Redis that is `full`: it answers polls and records what it holds, and refuses every reservation."""
    if isinstance(answer, InventoryFull):
        return "full"
    return "down" if isinstance(answer, Exception) else "up"


def _recording(behind: lag.Lag | Exception, *, database: str) -> dict[str, Any]:
    if isinstance(behind, Exception):
        return {"recording": "unknown", "waiting": None, "oldest_waiting_ms": None}
    state = "behind" if behind.oldest_ms > BEHIND_MS else "up"
    return {
        "recording": "down" if database == "down" else state,
        "waiting": behind.events,
        "oldest_waiting_ms": behind.oldest_ms,
    }


def _select_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@takes("GET")
def metrics(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(scraping.page(), content_type=CONTENT_TYPE_LATEST)
