"""Each dependency x {dead, hung, slow, resetting, trickling} x each page: in time, as ARCHITECTURE says, for people."""

from collections.abc import Callable, Iterator

import pytest
import redis

from shop.models import Sale
from tests.faults.expectations import DEGRADED, FAULTS
from tests.faults.matrix import Scene
from tests.faults.pages import PAGES, routes
from tests.faults.proxied_shop import DEPENDENCIES, ProxiedShop, proxied_shop
from tests.faults.visits import StallMeter


@pytest.fixture(scope="module")
def shop(django_db_setup: None) -> Iterator[ProxiedShop]:
    with proxied_shop() as running:
        yield running


@pytest.fixture(scope="module")
def meter() -> Iterator[StallMeter]:
    with StallMeter() as ticking:
        yield ticking


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_the_shop_goes_on_without(
    shop: ProxiedShop,
    meter: StallMeter,
    stock_redis: redis.Redis,
    make_sale: Callable[..., Sale],
    dependency: str,
    fault: str,
) -> None:
    """The pages of the table answer as it says and no others, none of them late; healed, all of them work again."""
    sale = make_sale(quantity=1_000, limit=3, hold=3_600)
    scene = Scene(shop, meter, stock_redis, sale.offers.select_related("product", "sale").get())

    try:
        complaints = scene.play(dependency, fault)
    finally:
        shop.heal()

    assert complaints == [], "\n".join([f"without {dependency} ({fault}):", *complaints, shop.last_words()])


def test_no_address_is_forgotten() -> None:
    """Whoever adds one to shop/urls.py says in tests/faults/pages.py how it answers."""
    assert {page.route for page in PAGES} >= set(routes())


def test_the_table_names_what_there_is() -> None:
    """Dependencies and pages of the table exist."""
    names = {page.name.partition(",")[0] for page in PAGES}

    assert set(DEGRADED) == set(DEPENDENCIES)
    assert {name for otherwise in DEGRADED.values() for name in otherwise} <= names
