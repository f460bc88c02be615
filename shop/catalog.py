"""What a page may read: facts of sales through the cache tiers, live counters shared by everybody who looks."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, Self

from django.core.cache import caches
from django.db.models import Q, QuerySet

from inventory import stock
from inventory.outcomes import InventoryUnavailable
from resilience.clock import now_ms
from shop import levels, models, pictures
from shop.decoded import Decoded
from shop.lately import Lately

#: Seconds the facts of a sale stay fresh; `publishing` drops them as soon as they change.
FACTS_SECONDS = 30
#: Seconds that the last facts serve on while PostgreSQL is away: longer than any failover takes.
LAST_KNOWN_SECONDS = 3_600
#: Seconds that everybody shares one look at the live counters.
LIVE_SECONDS = 0.5
#: Seconds that the counters before serve while somebody looks again: a page's script asks once a second.
LIVE_STALE_SECONDS = 1
#: Times as long beyond NORMAL: with a tenth of spread and the stale second, below the 2.5 s that clients are promised.
LIVE_STRETCH = 2.5

#: Seconds that a process remembers which sale an offer belongs to: as long as process memory answers alone.
OFFERING_SECONDS = 1.0
#: Seconds that a look at facts and counters is good for everybody who comes meanwhile: nobody sees so little.
MOMENT_SECONDS = 0.02
#: Sales that a process keeps put together: more than are published.
COMPOSED_MAXIMUM = 1_000

#: Django makes a cache for each thread, and its `cache` looks for it at each use; of ours they all share one inside, so
#: that this one does for all. (Its type does not know stale times.)
cache: Any = caches["default"]

#: Milliseconds until a page asks again: before T0 only the clock matters, after it the counters do.
POLL_MS = {"open": 1_000, "scheduled": 5_000, "sold_out": 2_000, "paused": 2_000, "closed": 30_000}
#: In which order a list shows them.
PHASES = list(POLL_MS)
#: Part of an offer's units that is "almost gone".
SCARCE_SHARE = 0.1


#: Counters of the offers of a sale, by the offer's id.
Levels = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer as its page shows it. Prices in minor units."""

    id: int
    title: str
    description: str
    picture: str
    picture_width: int
    picture_height: int
    price_minor: int
    list_price_minor: int
    currency: str
    quantity: int
    unit_limit: int
    available: int = 0
    held: int = 0
    sold: int = 0

    @property
    def scarce_units(self) -> int:
        """As long as no more are left, the page says that they are almost gone."""
        return math.ceil(self.quantity * SCARCE_SHARE)

    @property
    def is_scarce(self) -> bool:
        return 0 < self.available <= self.scarce_units


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
        return levels.slower(POLL_MS[self.phase])

    def offer(self, offer_id: int | None) -> Offer | None:
        """The offer with that id; without an id, the only one there is."""
        if offer_id is None:
            return self.offers[0] if len(self.offers) == 1 else None
        return next((offer for offer in self.offers if offer.id == offer_id), None)


def is_published(slug: str) -> bool:
    """True for the address of a sale. Costs nothing for any other: no query, no load, no key of its own."""
    slugs = _remembered(SLUGS_KEY, _load_slugs)
    return slug in _slugs.of(SLUGS_KEY, slugs)


def sale(slug: str) -> Sale | None:
    """A published sale with its live counters, or None. While PostgreSQL is away, what was last known of it."""
    seen = _seen.of(slug, _see, slug)
    return _with_levels(*seen) if seen else None


def _see(slug: str) -> tuple[Sale, Levels] | None:
    found = facts(slug)
    return (found, _levels([found]).get(live_key(slug), {})) if found else None


def facts(slug: str) -> Sale | None:
    """The same without a look at Redis: counters and phase are those of the time when it was loaded."""
    if not is_published(slug):
        return None
    key = facts_key(slug)
    found = _remembered(key, partial(_load_facts, slug))
    return None if found is None else _sales.of(key, found)


def has_offer(slug: str, offer_id: int) -> bool:
    """Whether a published sale has that offer. Asked with each click, and found out once a second."""
    return bool(_offering.of((slug, offer_id), _has_offer, slug, offer_id))


def _has_offer(slug: str, offer_id: int) -> bool:
    found = facts(slug)
    return found is not None and found.offer(offer_id) is not None


_seen = Lately[tuple[Sale, Levels]](MOMENT_SECONDS)
_offering = Lately[bool](OFFERING_SECONDS)


def sales() -> list[Sale]:
    """All published sales: what can be bought now, then what opens next, then the rest; those that are over last."""
    found = _remembered(LIST_KEY, _load_list)
    return sorted(live(_lists.of(LIST_KEY, found)), key=lambda sale: (PHASES.index(sale.phase), sale.opens_at_ms))


def _remembered(key: str, load: Callable[[], Any]) -> Any:
    """What PostgreSQL says, from the caches."""
    return cache.get_or_set(key, load, levels.stretched(FACTS_SECONDS), stale_seconds=LAST_KNOWN_SECONDS)


# --- The keys --------------------------------------------------------------------------------------------------------

#: Part of the keys of facts: while a new version of this program is rolled out, the one before cannot read its facts.
_SHAPE = hashlib.blake2b(
    ",".join(field.name for shape in (Sale, Offer) for field in fields(shape)).encode(), digest_size=4
).hexdigest()

#: Of what is known of all sales together.
SLUGS_KEY, LIST_KEY = "sales:slugs", f"sales:facts:{_SHAPE}"


def facts_key(slug: str) -> str:
    return f"sale:{slug}:facts:{_SHAPE}"


def live_key(slug: str) -> str:
    return f"sale:{slug}:live"


# --- What PostgreSQL says; called by whatever thread refreshes the cache ---------------------------------------------

_slugs = Decoded[frozenset[str]](frozenset)
_sales = Decoded[Sale](Sale.from_json)
_lists = Decoded[list[Sale]](lambda facts: [Sale.from_json(each) for each in facts])


def _load_slugs() -> list[str]:
    return list(_published().values_list("slug", flat=True))


def _load_facts(slug: str) -> dict[str, Any] | None:
    found = _with_offers().filter(slug=slug).first()
    return _facts_of(found) if found else None


def _load_list() -> list[dict[str, Any]]:
    return [_facts_of(found) for found in _with_offers()]


def _published() -> QuerySet[models.Sale]:
    return models.Sale.objects.exclude(Q(state=models.Sale.State.DRAFT) | Q(offers__stock__archived=True))


def _with_offers() -> QuerySet[models.Sale]:
    return _published().prefetch_related("offers__product", "offers__stock")


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
    width, height = pictures.size_of(offer.product.picture)
    return Offer(
        id=offer.pk,
        title=offer.product.title,
        description=offer.product.description,
        picture=offer.product.picture,
        picture_width=width,
        picture_height=height,
        price_minor=offer.price_minor,
        list_price_minor=offer.product.list_price_minor,
        currency=offer.product.currency,
        quantity=offer.stock.quantity,
        unit_limit=offer.stock.unit_limit,
        available=offer.stock.available,
        held=offer.stock.held,
        sold=offer.stock.sold,
    )


# --- What Redis says -------------------------------------------------------------------------------------------------


def live(sales: Iterable[Sale]) -> list[Sale]:
    """The sales with the counters of this half second and the phase that follows from them.

    When Redis cannot be asked they read as paused, with the counters that PostgreSQL had when the facts were cached.
    """
    sales = list(sales)
    found = _levels(sales)
    return [_with_levels(sale, found.get(live_key(sale.slug), {})) for sale in sales]


def _levels(sales: list[Sale]) -> dict[str, Levels]:
    """By the key of each sale; from the caches, and without the sales that Redis does not know."""
    offer_ids = {live_key(sale.slug): [offer.id for offer in sale.offers] for sale in sales}
    load = partial(_load_levels, offer_ids)
    fresh_seconds = levels.stretched(LIVE_SECONDS, LIVE_STRETCH)
    found: dict[str, Levels] = cache.get_many_or_set(offer_ids, load, fresh_seconds, stale_seconds=LIVE_STALE_SECONDS)
    return found


def _load_levels(offer_ids: Mapping[str, list[int]], keys: list[str]) -> dict[str, Levels]:
    """For each key the counters of its offers, in one trip to Redis; without those that Redis does not know."""
    try:
        found = stock.levels([offer_id for key in keys for offer_id in offer_ids[key]])
    except InventoryUnavailable:
        found = {}
    known = {offer_id: asdict(levels) for offer_id, levels in found.items() if levels}
    return {key: {str(each): known[each] for each in offer_ids[key] if each in known} for key in keys}


@dataclass(frozen=True, slots=True)
class _Composed:
    """A sale as it reads until its facts, its counters or its phase change."""

    facts: Sale
    levels: Levels
    until_ms: float
    sale: Sale


#: By address, as far as this process has been asked; process memory answers with the same objects until they change.
_composed: dict[str, _Composed] = {}


def _with_levels(sale: Sale, levels: Levels) -> Sale:
    known, now = _composed.get(sale.slug), now_ms()
    if known and known.facts is sale and known.levels is levels and now < known.until_ms:
        return known.sale
    composed = _compose(sale, levels)
    changes = [moment for moment in (sale.opens_at_ms, sale.closes_at_ms) if moment > now]
    if len(_composed) >= COMPOSED_MAXIMUM:
        _composed.clear()
    _composed[sale.slug] = _Composed(sale, levels, min(changes, default=math.inf), composed)
    return composed


def _compose(sale: Sale, levels: Levels) -> Sale:
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
