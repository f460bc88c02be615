"""Probes: alive, ready, and numbers for Prometheus."""

from django.conf import settings
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from inventory import stock
from shop.views.methods import takes


@takes("GET")
def livez(_request: HttpRequest) -> HttpResponse:
    return JsonResponse({"alive": True})


@takes("GET")
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 while units can be reserved; what else is missing is said, and degrades pages, but does not stop the sale."""
    parts = {
        "stock": _works(stock.ping),
        "database": _works(_select_one),
        "cache": _works(lambda: caches["redis"].get("readyz")),
        "memcached": _works(lambda: caches["memcached"].get("readyz")) if settings.MEMCACHED_URL else "off",
    }
    ready = parts["stock"] == "up"
    return JsonResponse({"ready": ready, **parts}, status=200 if ready else 503)


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
