"""A shop to look at: products, people, and sales in every state; and sales that go on opening while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from shop import demo_people, opening
from shop.models import Product, Sale

#: Seconds from the making of a rolling sale to its opening: time enough to sign in and see the countdown.
OPENS_IN_SECONDS = 60
#: Seconds a rolling sale stays open: the next one opens meanwhile.
OPEN_SECONDS = 120
#: Rolling sales that are over and still shown.
FINISHED_SHOWN = 3
#: How long the other sales of the demo last.
A_LONG_WHILE = timedelta(days=7)

Verb = Callable[[Sale], list[str]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one sale of one offer is made of."""

    quantity: int = 50
    unit_limit: int = 2
    hold_seconds: int = 120


_PRODUCTS = [
    ("Aurora headphones", "Thirty hours of quiet, from one charge.", "headphones", 129_900),
    ("Meridian watch", "Steel, sapphire, and nothing that beeps.", "watch", 219_900),
    ("Field camera", "Light enough to take everywhere.", "camera", 459_900),
    ("Stride sneaker", "Made for the second half of the run.", "sneaker", 69_900),
    ("Copper kettle", "Boils a litre in two minutes.", "kettle", 35_900),
    ("Halo lamp", "The light of a north window, all day.", "lamp", 49_900),
]


def fill() -> None:
    """Make what is missing of the demo; run again, it changes nothing."""
    products = [_product(*row) for row in _PRODUCTS]
    _people()
    now = timezone.now()
    _sale_once("weekend", "Weekend sale", products[:3], now + timedelta(days=2), opening.schedule)
    _sale_once("paused", "A paused sale", products[3:4], now, opening.schedule, opening.pause)
    _sale_once("closed", "A closed sale", products[4:5], now, opening.schedule, opening.close)
    _sale_once("draft", "A draft that only staff see", products[5:], now + timedelta(days=9))


def _product(title: str, description: str, picture: str, list_price_minor: int) -> Product:
    product, _ = Product.objects.get_or_create(
        title=title,
        defaults={
            "description": description,
            "picture": f"shop/products/{picture}.svg",
            "list_price_minor": list_price_minor,
        },
    )
    return product


def _people() -> None:
    if not User.objects.filter(username=demo_people.STAFF_NAME).exists():
        User.objects.create_superuser(demo_people.STAFF_NAME, password=demo_people.STAFF_PASSWORD)
    names = {f"shopper{number}" for number in range(1, demo_people.SHOPPERS + 1)}
    missing = names - set(User.objects.filter(username__in=names).values_list("username", flat=True))
    if missing:
        one_hash_for_all = User(username="-")
        one_hash_for_all.set_password(demo_people.SHOPPER_PASSWORD)
        User.objects.bulk_create(User(username=name, password=one_hash_for_all.password) for name in sorted(missing))


def _sale_once(slug: str, title: str, products: list[Product], opens_at: datetime, *verbs: Verb) -> None:
    if Sale.objects.filter(slug=slug).exists():
        return
    sale = _sale(slug, title, products, Terms(), opens_at, A_LONG_WHILE)
    for verb in verbs:
        verb(sale)


def _sale(slug: str, title: str, products: list[Product], terms: Terms, opens_at: datetime, lasts: timedelta) -> Sale:
    sale = Sale.objects.create(slug=slug, title=title, opens_at=opens_at, closes_at=opens_at + lasts)
    for product in products:
        opening.add_offer(
            sale,
            product,
            price_minor=product.list_price_minor // 2,
            quantity=terms.quantity,
            unit_limit=terms.unit_limit,
            hold_seconds=terms.hold_seconds,
        )
    return sale


def one_sale(slug: str, terms: Terms, *, opens_in_seconds: int) -> Sale:
    """A scheduled sale of one offer, as tests and load tests want it."""
    product = _product(*_PRODUCTS[0])
    opens_at = timezone.now() + timedelta(seconds=opens_in_seconds)
    sale = _sale(slug, slug.replace("-", " ").capitalize(), [product], terms, opens_at, A_LONG_WHILE)
    opening.schedule(sale)
    return sale


def roll() -> None:
    """Keep one sale open and one opening within a minute; clear away those that are long over."""
    now = timezone.now()
    rolling = Sale.objects.filter(slug__startswith="flash-")
    if not rolling.filter(closes_at__gt=now, opens_at__lte=now).exists():
        _roll_one(opens_at=now)
    if not rolling.filter(opens_at__gt=now).exists():
        _roll_one(opens_at=now + timedelta(seconds=OPENS_IN_SECONDS))
    for sale in rolling.filter(closes_at__lte=now, state=Sale.State.SCHEDULED):
        opening.close(sale)
    finished = rolling.filter(state=Sale.State.CLOSED, offers__stock__archived=False)
    for sale in finished.order_by("-opens_at")[FINISHED_SHOWN:]:
        opening.archive(sale)


def _roll_one(opens_at: datetime) -> None:
    number = _next_number()
    product = Product.objects.order_by("pk")[number % len(_PRODUCTS)]
    slug, title = f"flash-{number}", f"Flash sale {number}: {product.title}"
    opening.schedule(_sale(slug, title, [product], Terms(), opens_at, timedelta(seconds=OPEN_SECONDS)))


def _next_number() -> int:
    slugs = Sale.objects.filter(slug__regex=r"^flash-\d+$").values_list("slug", flat=True)
    return 1 + max((int(slug.removeprefix("flash-")) for slug in slugs), default=0)
