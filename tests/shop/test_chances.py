"""Who is told at once that waiting is of no use, and that nobody hears SOLD_OUT while something is left."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from resilience.admission import Verdict
from shop import catalog
from shop.chances import Chances, remembered_units
from shop.degraded import Kind
from shop.models import Offer, Sale
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.shop.clicks import hold

BUY, TICKET = "/sales/summer/buy", "/sales/summer/ticket"


def admitted() -> Verdict:
    return Verdict.ADMITTED


@pytest.mark.parametrize("left", [1, 5, None])
def test_a_ticket_is_worth_waiting_for_while_anything_may_be_left(left: int | None) -> None:
    """Also when this process has not looked."""
    assert Chances(lambda _: left).wait(TICKET, admitted) is Verdict.ADMITTED


def test_a_ticket_for_nothing_is_sold_out() -> None:
    assert Chances(lambda _: 0).wait(TICKET, admitted) is Kind.SOLD_OUT


def test_a_click_on_what_is_sold_out_waits() -> None:
    """Its ticket may name a reservation."""
    assert Chances(lambda _: 0).wait(BUY, admitted) is Verdict.ADMITTED


@pytest.mark.parametrize(("left", "said"), [(3, Kind.BUSY), (4, Verdict.ADMITTED), (None, Verdict.ADMITTED)])
def test_behind_as_many_as_there_are_units(left: int | None, said: Verdict | Kind) -> None:
    """Three wait for three units: the fourth is to come back. It is not told sold out, because that may not be true."""
    chances, go = Chances(lambda _: left), Event()

    def enter() -> Verdict:
        go.wait(PATIENCE_SECONDS)
        return Verdict.ADMITTED

    with ThreadPoolExecutor(3) as pool:
        before = [pool.submit(chances.wait, BUY, enter) for _ in range(3)]
        eventually(lambda: chances._waiting["summer"] == 3)

        assert chances.wait(BUY, admitted) is said
        assert chances.wait("/sales/winter/buy", admitted) is Verdict.ADMITTED
        go.set()

    assert {each.result() for each in before} == {Verdict.ADMITTED}
    assert not chances._waiting


def test_who_is_refused_by_the_room_is_not_counted_on() -> None:
    """Whatever the room says, or raises, the sale is forgotten when nobody waits."""
    chances = Chances(lambda _: 1)

    def broken() -> Verdict:
        raise RuntimeError("broken on purpose")

    assert chances.wait(BUY, lambda: Verdict.EXPIRED) is Verdict.EXPIRED
    with pytest.raises(RuntimeError):
        chances.wait(BUY, broken)
    assert not chances._waiting
    assert chances.wait(BUY, admitted) is Verdict.ADMITTED


def test_only_what_this_process_has_seen_is_known(
    make_sale: Callable[..., Sale], make_shopper: Callable[[], Any]
) -> None:
    """Nothing is asked; and after a look, what the page showed is what is known."""
    sale = make_sale(quantity=1)
    assert remembered_units(sale.slug) is None

    catalog.sale(sale.slug)
    assert remembered_units(sale.slug) == 1

    hold(make_shopper(), sale)
    catalog.cache.clear()
    catalog.sale(sale.slug)
    assert remembered_units(sale.slug) == 0


def test_of_several_offers_all_must_be_gone(sale: Sale, offer: Offer) -> None:
    """And what Redis does not know is no nought."""
    catalog.cache.set(catalog.live_key("other"), {"1": {"available": 0}, "2": {"available": 3}}, 10)
    catalog.cache.set(catalog.live_key("unknown"), {}, 10)
    catalog.cache.get(catalog.live_key("other")), catalog.cache.get(catalog.live_key("unknown"))

    assert remembered_units("other") == 3
    assert remembered_units("unknown") is None
