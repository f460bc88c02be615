"""Whoever saves something that pages show has it dropped from the caches, once it is committed and not before."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.core.cache import caches
from django.db import transaction
from django.test import Client
from django.utils import timezone

from inventory import stock
from shop import catalog, opening, pages, publishing
from shop.models import Offer, Product, Sale
from tests.crowd import PATIENCE_SECONDS

MakeSale = Callable[..., Sale]

pytestmark = pytest.mark.django_db(transaction=True)


def a_draft(slug: str) -> Sale:
    now = timezone.now()
    draft = Sale.objects.create(slug=slug, title="New", opens_at=now, closes_at=now + timedelta(hours=1))
    product = Product.objects.create(title=f"Lamp of {slug}", list_price_minor=2)
    opening.add_offer(draft, product, price_minor=1, quantity=1)
    return draft


@pytest.fixture
def told() -> Iterator[Callable[[], list[set[str]]]]:
    """Called, the keys of each invalidation that Redis has told all processes since the call before."""
    channel = caches["default"].stack.redis.channel  # type: ignore[attr-defined]
    with redis.Redis.from_url(settings.CACHE_REDIS_URL) as client, client.pubsub() as heard:
        heard.subscribe(channel)

        def since() -> list[set[str]]:
            client.publish(channel, json.dumps(["a test", ["that is all"]]))
            messages: list[set[str]] = []
            while {"that is all"} not in messages:
                message = heard.get_message(timeout=PATIENCE_SECONDS)
                assert message
                if message["type"] == "message":
                    messages.append(set(json.loads(message["data"])[1]))
            return messages[:-1]

        yield since


def texts_of(client: Client, slug: str) -> list[str]:
    """Each page that shows the sale, in each language."""
    return [
        client.get(path, headers={"accept-language": language}).content.decode()
        for path in ("/", f"/sales/{slug}/")
        for language in pages.LANGUAGES
    ]


def change_title(sale: Sale) -> str:
    sale.title = "Changed"
    sale.save()
    return "Changed"


def change_product(sale: Sale) -> str:
    product = sale.offers.get().product
    product.title = "Another lamp"
    product.save()
    return "Another lamp"


def change_price(sale: Sale) -> str:
    offer = sale.offers.get()
    offer.price_minor = 12_345
    offer.save(update_fields=["price_minor"])
    return "¥123.45"


@pytest.mark.parametrize("change", [change_title, change_price])
def test_a_saved_change_is_on_all_pages_at_once(client: Client, sale: Sale, change: Callable[[Sale], str]) -> None:
    """The front page and the sale's own, in both languages, without anybody's help."""
    texts_of(client, sale.slug)

    new = change(sale)

    assert all(new in text for text in texts_of(client, sale.slug))


def test_a_product_is_changed_in_all_its_sales(client: Client, make_sale: MakeSale) -> None:
    """What it is called is on the page of each of them."""
    first, second = make_sale(), make_sale()
    Offer.objects.filter(sale=second).update(product=first.offers.get().product)
    publishing.outdate([second.slug])
    paths = [f"/sales/{sale.slug}/" for sale in (first, second)]
    assert all("Another lamp" not in client.get(path).content.decode() for path in paths)

    new = change_product(first)

    assert all(new in client.get(path).content.decode() for path in paths)


def test_a_new_limit_is_on_the_page_at_once(client: Client, make_sale: MakeSale) -> None:
    """A stock's terms are saved by inventory, which knows no page."""
    sale = make_sale(limit=1)
    assert catalog.sale(sale.slug).offers[0].unit_limit == 1

    stock.change_limit(sale.offers.get().pk, 3)

    assert catalog.sale(sale.slug).offers[0].unit_limit == 3
    assert "At most 3" in client.get(f"/sales/{sale.slug}/").content.decode()


def test_a_sale_is_there_as_soon_as_it_is_published(client: Client) -> None:
    """Its address was asked for before, and had nothing."""
    draft = a_draft("brand-new")
    assert client.get("/sales/brand-new/").status_code == 404

    opening.schedule(draft)

    assert client.get("/sales/brand-new/").status_code == 200
    assert "/sales/brand-new/" in client.get("/").content.decode()


def test_a_sale_is_gone_as_soon_as_it_is_deleted_or_archived(client: Client, make_sale: MakeSale) -> None:
    """Neither its page nor the list shows it a moment longer."""
    archived, deleted = make_sale(slug="archived"), make_sale(slug="deleted")
    for sale in (archived, deleted):
        assert client.get(f"/sales/{sale.slug}/").status_code == 200

    opening.close(archived)
    assert opening.archive(archived)
    deleted.offers.get().delete()
    deleted.delete()

    for sale in (archived, deleted):
        assert client.get(f"/sales/{sale.slug}/").status_code == 404
        assert f"/sales/{sale.slug}/" not in client.get("/").content.decode()


def test_nothing_is_dropped_before_it_is_committed(sale: Sale) -> None:
    """A reader between the change and its commit would fill the caches with what was before."""
    catalog.sale(sale.slug)
    with transaction.atomic():
        change_title(sale)
        assert caches["default"].get(catalog.facts_key(sale.slug)) is not None
    assert caches["default"].get(catalog.facts_key(sale.slug)) is None


def test_what_is_rolled_back_drops_nothing(sale: Sale) -> None:
    """And says nothing to the caches."""
    catalog.sale(sale.slug)

    with transaction.atomic():
        change_title(sale)
        transaction.set_rollback(True)

    assert caches["default"].get(catalog.facts_key(sale.slug)) is not None


def test_one_transaction_makes_one_trip(make_sale: MakeSale, told: Callable[[], list[set[str]]]) -> None:
    """Two sales and all that belongs to them: their keys go together, and no others."""
    one, two, other = make_sale(), make_sale(), make_sale()
    told()

    with transaction.atomic():
        change_title(one)
        change_price(one)
        change_title(two)

    [keys] = told()
    assert {catalog.facts_key(sale.slug) for sale in (one, two)} <= keys
    assert not [key for key in keys if other.slug in key]


def test_a_savepoint_that_is_undone_does_not_undo_others(make_sale: MakeSale) -> None:
    """Changes of the same transaction, within a savepoint that fails and outside of it."""
    one, two = make_sale(), make_sale()
    for sale in (one, two):
        catalog.sale(sale.slug)

    with transaction.atomic():
        with transaction.atomic():
            change_title(one)
            transaction.set_rollback(True)
        with transaction.atomic():
            change_title(two)
        change_price(two)

    assert caches["default"].get(catalog.facts_key(two.slug)) is None
    assert caches["default"].get(catalog.facts_key(one.slug)) is not None
