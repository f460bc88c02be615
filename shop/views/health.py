"""Probes: alive, ready, and numbers for Prometheus."""

from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from inventory import lag, stock
from inventory.outcomes import InventoryFull
from shop.views.methods import takes

#: Age at which an event should have been written down long ago: a drain is woken each second, and takes less for it.
BEHIND_MS = 5_000


@takes("GET")
def livez(_request: HttpRequest) -> HttpResponse:
    return JsonResponse({"alive": True})


@takes("GET")
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 while units can be reserved; what else is missing is said, and degrades pages, but does not stop the sale.

    `recording` is down while PostgreSQL is, behind while an event waits too long, and unknown while Redis cannot be
    asked.
    """
    cache: Any = caches["default"]
    parts = {
        "stock": _stock(),
        "database": _works(_select_one),
        "cache": _works(cache.ask_redis),
        "memcached": _works(cache.ask_memcached) if settings.MEMCACHED_URLS else "off",
    }
    ready = parts["stock"] == "up"
    recording = _recording(database=parts["database"])
    return JsonResponse({"ready": ready, **parts, **recording}, status=200 if ready else 503)


def _stock() -> str:
    """`full` answers polls and records what it holds, and refuses every reservation."""
    try:
        stock.ready()
    except InventoryFull:
        return "full"
    except Exception:
        return "down"
    return "up"


def _recording(database: str) -> dict[str, Any]:
    try:
        behind = lag.lag()
    except Exception:
        return {"recording": "unknown", "waiting": None, "oldest_waiting_ms": None}
    state = "behind" if behind.oldest_ms > BEHIND_MS else "up"
    return {
        "recording": "down" if database == "down" else state,
        "waiting": behind.events,
        "oldest_waiting_ms": behind.oldest_ms,
    }


def _works(check: object) -> str:
    try:
        check()  # type: ignore[operator]
    except Exception:
        return "down"
    return "up"


def _select_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@takes("GET")
def metrics(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
