"""Polls travel together, and each gets its own answer."""

import threading
from collections.abc import Callable

import pytest
import redis

from inventory import _keys, _reading, reservations
from inventory.outcomes import InventoryUnavailable, Standing, Wish
from shop.models import Offer, Sale
from tests.crowd import at_once, eventually
from tests.people import reservation_id


def test_a_crowd_polls_in_few_trips(
    make_sale: Callable[..., Sale], stock_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty-four who ask while a trip is away travel in one, and each hears of the own reservation."""
    offer = make_sale(quantity=64).offers.get()
    wishes = [Wish(reservation_id(offer), buyer) for buyer in range(1, 65)]
    reservations.reserve(offer.pk, wishes)
    away, back = threading.Event(), threading.Event()
    send = _reading._batcher._send
    monkeypatch.setattr(_reading._batcher, "_send", lambda callers: (away.set(), back.wait(10), send(callers))[2])
    first = threading.Thread(target=reservations.look_up, args=(offer.pk, "nobody's"))
    first.start()
    assert away.wait(10)
    before = _reading._batcher.batches

    def ask(wish: Wish) -> Standing | None:
        if wish is wishes[-1]:
            eventually(lambda: _reading._batcher.waiting >= len(wishes) - 1)
            back.set()
        return reservations.look_up(offer.pk, wish.reservation_id)

    standings = at_once(wishes, ask)

    first.join()
    assert [standing.buyer_id for standing in standings if standing] == [wish.buyer_id for wish in wishes]
    assert _reading._batcher.batches - before <= 2


def test_a_broken_hash_strikes_only_who_asks_for_it(offer: Offer, stock_redis: redis.Redis) -> None:
    """Of two polls in one trip, the one for an offer whose data are broken hears so, and the other its answer."""
    reservation = reservation_id(offer)
    reservations.reserve(offer.pk, [Wish(reservation, 7)])
    stock_redis.set(_keys.reservations(999), "no hash")

    broken, fine = _reading._send(
        [[(_keys.reservations(999), ["x"])], [(_keys.reservations(offer.pk), [reservation, "x"])]]
    )

    assert isinstance(broken, InventoryUnavailable)
    assert fine == [["held:7:1", None]]
