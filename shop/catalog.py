"""What a page may read: facts of sales through the cache tiers, live counters shared by everybody who looks."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from django.core.cache import cache
from django.db.models import Q

from inventory import stock
from inventory.outcomes import InventoryUnavailable
from resilience.clock import now_ms
from shop import models
from shop.away import DATABASE_AWAY

#: Seconds the facts of a sale stay cached; a change by staff drops them at once.
FACTS_SECONDS = 30
#: Seconds that the last facts are kept for a time without PostgreSQL.
LAST_KNOWN_SECONDS = 3_600
#: Characters of an address, as the model keeps it.
SLUG_MAXIMUM = 60
#: Seconds that everybody shares one look at the live counters.
LIVE_SECONDS = 0.5
#: What is cached for an address that names no sale, so that asking again costs no query.
NO_SALE = "no such sale"

#: Milliseconds until a page asks again: before T0 only the clock matters, after it the counters do.
POLL_MS = {"open": 1_000, "scheduled": 5_000, "sold_out": 2_000, "paused": 2_000, "closed": 30_000}
#: In which order a list shows them.
PHASES = list(POLL_MS)


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer as its page shows it. Prices in minor units."""

    id: int
    title: str
    description: str
    picture: str
    price_minor: int
    list_price_minor: int
    currency: str
    quantity: int
    unit_limit: int
    available: int = 0
    held: int = 0
    sold: int = 0


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale as its page shows it. `state` is what staff said; `phase` what it comes to at this moment."""

    slug: str
    title: str
    state: str
    opens_at_ms: int
    closes_at_ms: int
    offers: tuple[Offer, ...]
    phase: str = "scheduled"

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Self:
        return cls(**{**facts, "offers": tuple(Offer(**offer) for offer in facts["offers"])})

    @property
    def poll_after_ms(self) -> int:
        return POLL_MS[self.phase]

    def offer(self, offer_id: int | None) -> Offer | None:
        """The offer with that id; without an id, the only one there is."""
        if offer_id is None:
            return self.offers[0] if len(self.offers) == 1 else None
        return next((offer for offer in self.offers if offer.id == offer_id), None)


def sale(slug: str) -> Sale | None:
    """A published sale with its live counters, or None. While PostgreSQL is away, what was last known of it."""
    if len(slug) > SLUG_MAXIMUM:
        return None
    facts: Any = cache.get_or_set(_key(slug), lambda: _known(_key(slug), lambda: _facts(slug)), FACTS_SECONDS)
    return None if facts == NO_SALE else live([Sale.from_json(facts)])[0]


def sales() -> list[Sale]:
    """All published sales: what can be bought now, then what opens next, then the rest; those that are over last."""
    facts: Any = cache.get_or_set("sales", lambda: _known("sales", _all_facts), FACTS_SECONDS)
    found = live([Sale.from_json(each) for each in facts])
    return sorted(found, key=lambda sale: (PHASES.index(sale.phase), sale.opens_at_ms))


def forget(slug: str) -> None:
    """Drop what is cached of a sale, after staff changed it."""
    cache.delete(_key(slug))
    cache.delete("sales")


def _known(key: str, load: Callable[[], Any]) -> Any:
    """What PostgreSQL says; while it is away, what it said last. Selling goes on without it."""
    try:
        facts = load()
    except DATABASE_AWAY:
        last = cache.get(f"last:{key}")
        if last is None:
            raise
        return last
    cache.set(f"last:{key}", facts, LAST_KNOWN_SECONDS)
    return facts


def _key(slug: str) -> str:
    return f"sale:{slug}"


def _facts(slug: str) -> dict[str, Any] | str:
    found = _published().filter(slug=slug).first()
    return _facts_of(found) if found else NO_SALE


def _all_facts() -> list[dict[str, Any]]:
    return [_facts_of(found) for found in _published()]


def _published() -> Any:
    hidden = Q(state=models.Sale.State.DRAFT) | Q(offers__stock__archived=True)
    published = models.Sale.objects.exclude(hidden)
    return published.prefetch_related("offers__product", "offers__stock")


def _facts_of(found: models.Sale) -> dict[str, Any]:
    return asdict(
        Sale(
            slug=found.slug,
            title=found.title,
            state=found.state,
            opens_at_ms=int(found.opens_at.timestamp() * 1000),
            closes_at_ms=int(found.closes_at.timestamp() * 1000),
            offers=tuple(_offer(offer) for offer in found.offers.all()),
        )
    )


def _offer(offer: models.Offer) -> Offer:
    return Offer(
        id=offer.pk,
        title=offer.product.title,
        description=offer.product.description,
        picture=offer.product.picture,
        price_minor=offer.price_minor,
        list_price_minor=offer.product.list_price_minor,
        currency=offer.product.currency,
        quantity=offer.stock.quantity,
        unit_limit=offer.stock.unit_limit,
        available=offer.stock.available,
        held=offer.stock.held,
        sold=offer.stock.sold,
    )


def live(sales: Iterable[Sale]) -> list[Sale]:
    """The sales with the counters of this half second and the phase that follows from them.

    When Redis cannot be asked they read as paused, with the counters that PostgreSQL had when the facts were cached.
    """
    sales = list(sales)
    offer_ids = sorted({offer.id for sale in sales for offer in sale.offers})
    key = "live:" + ",".join(map(str, offer_ids))
    levels: Any = cache.get_or_set(key, lambda: _levels(offer_ids), LIVE_SECONDS) if offer_ids else {}
    return [_with_levels(sale, levels) for sale in sales]


def _levels(offer_ids: list[int]) -> dict[str, dict[str, Any]]:
    try:
        found = stock.levels(offer_ids)
    except InventoryUnavailable:
        return {}
    return {str(offer_id): asdict(levels) for offer_id, levels in found.items() if levels}


def _with_levels(sale: Sale, levels: dict[str, dict[str, Any]]) -> Sale:
    offers = tuple(_counted(offer, levels.get(str(offer.id))) for offer in sale.offers)
    all_known = all(str(offer.id) in levels for offer in offers)
    return replace(sale, offers=offers, phase=_phase(sale, offers, all_known=all_known))


def _counted(offer: Offer, levels: dict[str, Any] | None) -> Offer:
    if levels is None:
        return offer
    return replace(offer, **{name: levels[name] for name in ("quantity", "available", "held", "sold")})


def _phase(sale: Sale, offers: tuple[Offer, ...], *, all_known: bool) -> str:
    now = now_ms()
    if sale.state == "closed" or now >= sale.closes_at_ms:
        return "closed"
    if sale.state == "paused" or not all_known:
        return "paused"
    if now < sale.opens_at_ms:
        return "scheduled"
    return "open" if any(offer.available for offer in offers) else "sold_out"
