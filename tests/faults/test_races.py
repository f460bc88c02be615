"""Everybody at the same moment: of those who want the same unit one gets it, and all books agree on who.

RACE_ROUNDS=300 (or ROUNDS) for more rounds than the 50 of a quick run.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from random import Random

import pytest

from inventory import effects, outbox, reservations, stock
from inventory.models import BuyerUnits, Reservation, Stock
from inventory.outcomes import Wish
from inventory.verification import findings
from shop import orders
from shop.models import Offer, Order, Payment, Sale
from shop.verification import findings as money_findings
from tests.crowd import at_once
from tests.faults import racer
from tests.faults.sizes import SEED, rounds
from tests.people import a_crowd, pay, reservation_id

ROUNDS = rounds("RACE_ROUNDS", 50)
PROCESSES = 4

Reserve = Callable[[Offer, list[Wish]], list[str]]


@pytest.fixture(scope="module")
def reserve_at_once() -> Iterator[Reserve]:
    """One wish for each of four processes, which wait for each other; answers the outcomes in the order of wishes."""
    context = multiprocessing.get_context("spawn")
    start_line = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, racer.take_place, (start_line,)) as pool:

        def reserve(offer: Offer, wishes: list[Wish]) -> list[str]:
            return list(pool.map(racer.reserve, [offer.pk] * PROCESSES, wishes))

        yield reserve


@pytest.fixture
def offer(make_sale: Callable[..., Sale]) -> Offer:
    """A unit for each round, two at most for a buyer."""
    return make_sale(quantity=ROUNDS, limit=2).offers.get()


def books_agree(offer: Offer) -> tuple[int, int, int]:
    """(available, held, sold) by both stores, which keep every promise; after everything has settled down."""
    outbox.drain(offer.pk, orders.place)
    effects.apply_pending()
    assert [*findings(offer.pk), *money_findings(offer.pk)] == []
    row, levels = Stock.objects.get(pk=offer.pk), stock.levels([offer.pk])[offer.pk]
    assert levels is not None
    assert (row.available, row.held, row.sold) == (levels.available, levels.held, levels.sold)
    return row.available, row.held, row.sold


# --- The end of an order


def an_order(offer: Offer) -> Order:
    """It awaits payment, and its time is over at this moment."""
    [buyer] = a_crowd(1)
    wish = Wish(reservation_id(offer), buyer)
    reservations.reserve(offer.pk, [wish])
    outbox.drain(offer.pk, orders.place)
    order = Order.objects.get(reservation=wish.reservation_id)
    Reservation.objects.filter(pk=wish.reservation_id).update(expires_at=order.placed_at)
    return order


def expire(_: Order) -> None:
    reservations.expire_due(orders.expire)


ENDINGS: list[Callable[[Order], object]] = [pay, expire, orders.cancel]

#: The order's end -> that of its reservation, what became of the money, and the units that are free, held and sold.
ENDS = {
    "paid": ("confirmed", "succeeded", (0, 0, 1)),
    "expired": ("expired", "late", (1, 0, 0)),
    "refund_due": ("released", "refund_due", (1, 0, 0)),
}
#: Rounds after which a race that always ends the same is none.
FAIR_ROUNDS = 50


def test_an_order_ends_once(make_sale: Callable[..., Sale]) -> None:
    """Paid, run out and cancelled at the same moment: one of them wins, and order, units and money say the same."""
    choice, ended = Random(SEED), set()
    for number in range(ROUNDS):
        offer = make_sale(quantity=1).offers.get()
        order = an_order(offer)

        at_once(choice.sample(ENDINGS, 3), lambda end, order=order: end(order))

        order.refresh_from_db()
        assert what_became_of(order) == ENDS[order.state], f"SEED={SEED}, round {number}"
        ended.add(order.state)
        Stock.objects.filter(pk=offer.pk).update(archived=True)
    assert len(ended) > 1 or ROUNDS < FAIR_ROUNDS


def what_became_of(order: Order) -> tuple[str, str, tuple[int, int, int]]:
    """As in ENDS, when both stores agree and the buyer has just what was sold."""
    effects.apply_pending()
    assert findings(order.offer_id) == []
    levels = stock.levels([order.offer_id])[order.offer_id]
    assert levels is not None
    assert BuyerUnits.objects.get(stock=order.offer_id, buyer_id=order.buyer_id).units == levels.sold
    state = Reservation.objects.get(pk=order.reservation_id).state
    return state, Payment.objects.get(order=order).state, (levels.available, levels.held, levels.sold)


# --- The beginning of a reservation


def test_the_last_unit_goes_to_one_of_four_processes(make_sale: Callable[..., Sale], reserve_at_once: Reserve) -> None:
    """Four buyers, four processes, one unit: one holds it, three hear SOLD_OUT; the units were never more than one."""
    for number in range(ROUNDS):
        offer = make_sale(quantity=1).offers.get()
        wishes = [Wish(reservation_id(offer), buyer) for buyer in a_crowd(PROCESSES)]

        outcomes = reserve_at_once(offer, wishes)

        assert sorted(outcomes) == ["RESERVED", *["SOLD_OUT"] * 3], f"round {number}"
        assert books_agree(offer) == (0, 1, 0)
        winner = Reservation.objects.get(stock=offer.pk)
        assert winner.pk == wishes[outcomes.index("RESERVED")].reservation_id
        Stock.objects.filter(pk=offer.pk).update(archived=True)


def test_one_buyer_in_four_processes_stays_within_the_limit(offer: Offer, reserve_at_once: Reserve) -> None:
    """Four tickets of one buyer, whose limit is two: two of them hold a unit each."""
    for number in range(ROUNDS // 2):
        [buyer] = a_crowd(1)
        wishes = [Wish(reservation_id(offer), buyer) for _ in range(PROCESSES)]

        outcomes = reserve_at_once(offer, wishes)

        assert sorted(outcomes) == ["LIMIT_REACHED"] * 2 + ["RESERVED"] * 2, f"round {number}"
    assert books_agree(offer) == (ROUNDS % 2, ROUNDS // 2 * 2, 0)


def test_one_ticket_in_four_processes_is_one_reservation(offer: Offer, reserve_at_once: Reserve) -> None:
    """Whoever of the four comes first is answered RESERVED, and the others REPEATED, for one unit."""
    for number in range(ROUNDS):
        [buyer] = a_crowd(1)

        outcomes = reserve_at_once(offer, [Wish(reservation_id(offer), buyer)] * PROCESSES)

        assert sorted(outcomes) == ["REPEATED"] * 3 + ["RESERVED"], f"round {number}"
    assert books_agree(offer) == (0, ROUNDS, 0)
