"""Probes: alive, ready, and numbers for Prometheus. The first two ask no server for anything; what workers saw comes
from the caches, which wait for nobody long."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST

from inventory import lag
from resilience import breaker, degradation, scraping
from shop import gauges, readiness
from shop.readiness import Part, word
from shop.views.methods import takes

#: Age at which an event should have been written down long ago: a drain is woken each second, and takes less for it.
BEHIND_MS = 5_000

ALIVE = b'{"alive": true}'


@takes("GET")
def livez(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(ALIVE, content_type="application/json")


@takes("GET")
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 while units can be reserved; what else is missing is said, and degrades pages, but does not stop the sale.

    What this process last heard, `age_ms` ago; not ready while it has heard nothing of stock Redis lately. `recording`
    is down while PostgreSQL is, behind while an event waits too long, and unknown while Redis cannot be asked.
    """
    parts = readiness.watch.parts()
    words = {"memcached": "off", **{name: word(part.latest) for name, part in parts.items()}}
    draining = parts["draining"].latest is True
    ready = words["stock"] == "up" and not draining
    facts = {
        "ready": ready,
        **{name: words[name] for name in ("stock", "database", "cache", "memcached")},
        **_recording(parts["lag"].latest, database=words["database"]),
        "draining": draining,
        "age_ms": _age_ms(parts["stock"]),
        "level": degradation.current.level.name,
        "breakers": {each.name: each.state for each in breaker.all_of_this_process()},
    }
    return JsonResponse(facts, status=200 if ready else 503)


def _age_ms(part: Part) -> int | None:
    return None if isinstance(part.latest, readiness.Unknown) else int(part.age_seconds * 1000)


def _recording(behind: lag.Lag | Exception, *, database: str) -> dict[str, Any]:
    if isinstance(behind, Exception):
        return {"recording": "unknown", "waiting": None, "oldest_waiting_ms": None}
    state = "behind" if behind.oldest_ms > BEHIND_MS else "up"
    return {
        "recording": "down" if database == "down" else state,
        "waiting": behind.events,
        "oldest_waiting_ms": behind.oldest_ms,
    }


@takes("GET")
def metrics(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(scraping.page(gauges.LastSeen()), content_type=CONTENT_TYPE_LATEST)
