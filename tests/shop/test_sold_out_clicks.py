"""Clicks and tickets when nothing is left: answered from memory, and never to whoever has a unit."""

from collections.abc import Callable, Iterator

import pytest
import redis
from django.test import Client

from inventory import sold_out
from shop import buying, catalog
from shop.models import Sale
from tests.shop import clicks

#: More milliseconds than a test takes.
TEST_LASTS_MS = 600_000


@pytest.fixture(autouse=True)
def long_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pause of this machine is longer than the memory, and the next test begins with none."""
    monkeypatch.setattr(sold_out, "MEMORY_SECONDS", 60)
    sold_out.forget()
    yield
    sold_out.forget()


@pytest.fixture
def every_ticket_is_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the last hold, without a wait of a second."""
    monkeypatch.setattr(sold_out, "CLOCKS_DIFFER_MS", -TEST_LASTS_MS)


def scripts(stock_redis: redis.Redis) -> int:
    return int(stock_redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_redis_hears_of_the_first_click_only(
    make_sale: Callable[..., Sale],
    make_shopper: Callable[[], Client],
    stock_redis: redis.Redis,
    every_ticket_is_younger: None,
) -> None:
    """One unit, and five who come too late with tickets: all hear SOLD_OUT, and one of them from Redis."""
    sale = make_sale(quantity=1)
    late = [(shopper, clicks.ticket(shopper, sale)) for shopper in (make_shopper() for _ in range(5))]
    clicks.hold(make_shopper(), sale)
    before = scripts(stock_redis)

    words = [clicks.buy(shopper, sale, permission).json()["outcome"] for shopper, permission in late]

    assert words == ["SOLD_OUT"] * 5
    assert scripts(stock_redis) == before + 1


def test_whoever_has_the_last_unit_hears_so_again(
    make_sale: Callable[..., Sale], make_shopper: Callable[[], Client]
) -> None:
    """Its ticket is older than the memory allows for: it is asked for in Redis."""
    sale, winner, late = make_sale(quantity=1), make_shopper(), make_shopper()
    permission, too_late = clicks.ticket(winner, sale), clicks.ticket(late, sale)
    clicks.buy(winner, sale, permission)
    clicks.buy(late, sale, too_late)

    assert clicks.buy(winner, sale, permission).json()["outcome"] == "REPEATED"


def test_no_ticket_while_the_memory_lasts(
    make_sale: Callable[..., Sale], make_shopper: Callable[[], Client], every_ticket_is_younger: None
) -> None:
    """Also while the counters that everybody shares for half a second still say that there is one."""
    sale, late = make_sale(quantity=1), make_shopper()
    too_late = clicks.ticket(late, sale)
    seen = catalog.sale(sale.slug)
    assert seen is not None
    clicks.hold(make_shopper(), sale)

    assert buying.refusal(seen, seen.offers[0]) is None
    clicks.buy(late, sale, too_late)
    assert buying.refusal(seen, seen.offers[0]) == "SOLD_OUT"
