"""What the console shows, looked at once a second by one of all processes, however many people watch.

Whoever polls reads two values of the caches: of the service, which all consoles share, and of the sale. Loading one
asks each source once, all at the same moment, for at most LOOK_SECONDS. Of a source that is away the last answer stays,
with the moment when it was heard.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.core.cache import cache as django_cache

from inventory import lag, stock
from resilience import deadline, degradation, parallel
from resilience.clock import now_ms
from shop import catalog, gauges, preheating, service_figures
from shop.away import DATABASE_AWAY
from shop.models import Offer, Sale, SaleEvent

#: Seconds for which all who watch share one look.
FRESH_SECONDS = 0.9
#: Seconds for which the look before serves while somebody looks again.
STALE_SECONDS = 5.0
#: Seconds that a source has to answer: the next look comes a second after this one.
LOOK_SECONDS = 0.8
#: Looks that a console which is opened now still sees: two minutes.
POINTS_MAXIMUM = 120
#: Milliseconds between two looks beyond which their difference says nothing about now.
GAP_MS = 15_000
#: Lines of the record that are shown.
EVENTS_SHOWN = 12

#: Its type does not know stale times.
cache: Any = django_cache

Look = dict[str, Any]

#: What this process saw last, by key: of what is away it is shown on, and rates are differences to it.
_seen: dict[str, Look] = {}


def service() -> Look:
    """Rates, breakers and level of all processes of this machine."""
    return _shared("console:service", _look_at_service)


def sale(slug: str) -> Look:
    """Stock in both stores, what waits between them, and the record, of one sale."""
    return _shared(f"console:{slug}", partial(_look_at_sale, slug))


def _shared(key: str, look: Callable[[Look | None], Look]) -> Look:
    try:
        found = cache.get_or_set(key, lambda: look(_seen.get(key)), FRESH_SECONDS, stale_seconds=STALE_SECONDS)
    except DATABASE_AWAY:  # nobody loaded it in time
        if key not in _seen:
            raise
        return _seen[key]
    if key not in _seen or _seen[key]["at_ms"] <= found["at_ms"]:
        _seen[key] = found
    return _seen[key]


def for_viewer(slug: str, since_ms: int) -> Look:
    """Both of them, with the points that came after the one that the viewer has."""
    told, its_own = service(), sale(slug)
    return {
        "now_ms": now_ms(),
        "level_reason": told["reason"],
        **told["figures"],
        "funnel": told["sums"]["funnel"].get(slug, {}),
        "service_points": _after(told["points"], since_ms),
        "phase": _phase(its_own, now_ms()),
        **{name: its_own[name] for name in ("redis", "record", "preheated", "seen_by_workers")},
        "sale_points": _after(its_own["points"], since_ms),
    }


def _phase(look: Look, now: int) -> str:
    """As shoppers see it: without Redis nothing is sold, whatever staff said."""
    facts, redis = (look["record"]["value"] or {}).get("sale"), look["redis"]
    if facts is None or facts["state"] == "draft":
        return "draft" if facts else "unknown"
    if facts["state"] == "closed" or now >= facts["closes_at_ms"]:
        return "closed"
    if facts["state"] == "paused" or redis["away"]:
        return "paused"
    if now < facts["opens_at_ms"]:
        return "scheduled"
    return "open" if any(each["available"] for each in redis["value"]["offers"].values()) else "sold_out"


def _after(points: list[Any], since_ms: int) -> list[Any]:
    return [point for point in points if point[0] > since_ms]


# --- The service -----------------------------------------------------------------------------------------------------


def _look_at_service(before: Look | None) -> Look:
    now, sums = now_ms(), service_figures.look()
    is_recent = before is not None and 0 < now - before["at_ms"] < GAP_MS
    seconds = (now - before["at_ms"]) / 1000 if before and is_recent else 1.0
    figures = service_figures.between(before["sums"] if before and is_recent else None, sums, seconds)
    situation = degradation.current.situation
    point = [now, {lane: [each["rate"], each["p95_ms"]] for lane, each in figures["lanes"].items()}]
    return {
        "at_ms": now,
        "sums": sums,
        "figures": figures,
        "reason": situation.reason if situation.level.name == figures["level"] else "",
        "points": _with(before, point),
    }


def _with(before: Look | None, point: list[Any]) -> list[Any]:
    return [*(before["points"] if before else []), point][-POINTS_MAXIMUM:]


# --- A sale ----------------------------------------------------------------------------------------------------------


def _look_at_sale(slug: str, before: Look | None) -> Look:
    offer_ids = _offer_ids(slug, before)
    with deadline.within(LOOK_SECONDS):
        found = parallel.gather(
            on_error="collect",
            redis=lambda: _redis(offer_ids),
            record=lambda: _record(slug),
            seen_by_workers=lambda: _seen_by_workers(slug),
            preheated=lambda: _preheated(slug),
        )
    now = now_ms()
    parts = {name: _part(answer, now, before and before[name]) for name, answer in found.items()}
    told = parts["redis"]["value"] or {}
    sums = [sum(levels[name] for levels in told.get("offers", {}).values()) for name in ("available", "held", "sold")]
    offers = (parts["record"]["value"] or {}).get("offers", {})
    point = [now, *sums] if not parts["redis"]["away"] else [now, None, None, None]
    return {"at_ms": now, "offers": offers, **parts, "points": _with(before, point)}


def _part(answer: Any, now: int, before: Look | None) -> Look:
    """What a source says and since when; of one that is away, what it said last."""
    if not isinstance(answer, Exception):
        return {"value": answer, "at_ms": now, "away": False}
    return {"value": None, "at_ms": None, **(before or {}), "away": True}


def _offer_ids(slug: str, before: Look | None) -> list[int]:
    try:
        facts = catalog.facts(slug)
    except DATABASE_AWAY:
        facts = None
    return [offer.id for offer in facts.offers] if facts else [int(pk) for pk in (before or {}).get("offers", {})]


def _redis(offer_ids: list[int]) -> Look:
    levels, behind = stock.levels(offer_ids), lag.lag()
    offers = {
        str(pk): {name: getattr(each, name) for name in ("quantity", "available", "held", "sold", "state")}
        for pk, each in levels.items()
        if each
    }
    return {"offers": offers, "waiting": behind.events, "oldest_ms": behind.oldest_ms}


def _record(slug: str) -> Look:
    """Three statements."""
    its_own = Sale.objects.filter(slug=slug).values_list("title", "state", "opens_at", "closes_at").first()
    fields = ("stock_id", "product__title", "stock__quantity", "stock__held", "stock__sold", "stock__unit_limit")
    rows = Offer.objects.filter(sale__slug=slug).order_by("pk").values_list(*fields)
    offers = {
        str(pk): {"title": title, "quantity": quantity, "held": held, "sold": sold, "limit": limit}
        for pk, title, quantity, held, sold, limit in rows
    }
    lines = SaleEvent.objects.filter(sale__in=[slug, ""])[:EVENTS_SHOWN]
    return {"sale": its_own and _facts(*its_own), "offers": offers, "events": [_line(each) for each in lines]}


def _facts(title: str, state: str, opens_at: datetime, closes_at: datetime) -> Look:
    times = {"opens_at_ms": int(opens_at.timestamp() * 1000), "closes_at_ms": int(closes_at.timestamp() * 1000)}
    return {"title": title, "state": state, **times}


def _line(event: SaleEvent) -> Look:
    return {
        "at_ms": int(event.at.timestamp() * 1000),
        **{name: getattr(event, name) for name in ("act", "what", "detail", "by")},
    }


def _seen_by_workers(slug: str) -> Look:
    """What takes longer than a second to find out: drift of offers at rest, and events that made no sense."""
    found: Look = {"drift": None, "dead_events": None}
    for name, labels, value in gauges.last():
        if name == "shop_drift_units" and labels == [slug]:
            found["drift"] = value
        elif name == "inventory_dead_events":
            found["dead_events"] = value
    return found


def _preheated(slug: str) -> str:
    progress = preheating.Progress.of(slug)
    return "" if progress is None else progress.failure or progress.text
