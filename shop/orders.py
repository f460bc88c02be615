"""Orders: placed by the drain, ended by payment, cancellation or time."""

from collections.abc import Sequence

from django.db import connection, transaction
from django.db.models.functions import Now

from inventory import reservations
from inventory.models import Reservation
from inventory.outcomes import Recorded
from resilience.empty import nothing_for_nothing
from shop import funnel
from shop.models import Order, order_number_of

_AWAITING = Order.State.AWAITING_PAYMENT

#: How a reservation ended -> how its order did.
_ENDED_AS = {
    Reservation.State.CONFIRMED: Order.State.PAID,
    Reservation.State.RELEASED: Order.State.CANCELLED,
    Reservation.State.EXPIRED: Order.State.EXPIRED,
}

#: One statement for a batch of the drain: model by model, the ORM takes over ten times as long, most of it in Python.
_INSERT = """
    INSERT INTO shop_order (
        number, reservation_id, buyer_id, offer_id, title, units, total_minor, currency, state, pay_until)
    SELECT given.number, held.id, held.buyer_id, held.stock_id, product.title, held.units,
           offer.price_minor * held.units, product.currency, %s, held.expires_at
      FROM unnest(%s::text[], %s::text[]) AS given (id, number)
      JOIN inventory_reservation held USING (id)
      JOIN shop_offer offer ON offer.stock_id = held.stock_id
      JOIN shop_product product ON product.id = offer.product_id
        ON CONFLICT (reservation_id) DO NOTHING
 RETURNING reservation_id, number
"""


@nothing_for_nothing(returns=dict)
def place(held: Sequence[Recorded]) -> dict[str, str]:
    """Make the orders of reservations that have none yet; answers reservation id -> order number for all of them.

    Runs inside the drain's transaction, and again when a drain repeats itself: then it only answers.
    """
    _give_late_ones(held)
    numbers = _insert(held)
    funnel.when_committed("placed", numbers)
    others = [reservation.pk for reservation in held if reservation.pk not in numbers]
    return numbers | _numbers_of(others)


def _insert(held: Sequence[Recorded]) -> dict[str, str]:
    """Answers the numbers of the orders really made."""
    ids = [reservation.pk for reservation in held]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [_AWAITING, ids, [order_number_of(pk) for pk in ids]])
        return dict(cursor.fetchall())


@nothing_for_nothing(returns=dict)
def _numbers_of(reservation_ids: list[str]) -> dict[str, str]:
    orders = Order.objects.filter(reservation__in=reservation_ids)
    return dict(orders.values_list("reservation_id", "number"))


def _give_late_ones(held: Sequence[Recorded]) -> None:
    """A hold that late money asked for belongs to the order that was paid with it, which awaits payment again."""
    late = {reservation.pk: reservation for reservation in held if reservation.reason == "late"}
    if not late:
        return
    with transaction.atomic():
        asking = Order.objects.select_for_update().filter(late_reservation__in=late)
        for order in asking.exclude(reservation__in=late):
            order.earlier.add(order.reservation)
            held_now = late[str(order.late_reservation)]
            order.reservation_id, order.pay_until = held_now.pk, held_now.expires_at
            order.state, order.ended_at = _AWAITING, None
            order.save(update_fields=["reservation", "state", "ended_at", "pay_until"])


def expire(reservation_ids: list[str]) -> None:
    """The holds ran out; so do their orders. Runs inside the transaction that ended the holds."""
    funnel.when_committed("expired", reservation_ids)
    _end(reservation_ids, Order.State.EXPIRED)


def follow(state: Reservation.State, reservation_ids: list[str]) -> None:
    """Their reservations have ended so before, and PostgreSQL had forgotten it. Runs inside the transaction that ends
    them again."""
    _end(reservation_ids, _ENDED_AS[state])


def cancel(order: Order) -> bool:
    """The buyer gives the units back. False when the order was paid or ended before."""
    with transaction.atomic():
        won = reservations.release(order.reservation_id)
        if won:
            funnel.when_committed("cancelled", [order.reservation_id])
            _end([order.reservation_id], Order.State.CANCELLED)
    return won


def pay(order: Order) -> bool:
    """The money has come: the units are sold. False when the hold had ended before. Runs inside a transaction."""
    won = reservations.confirm(order.reservation_id)
    if won:
        funnel.when_committed("paid", [order.reservation_id])
        _end([order.reservation_id], Order.State.PAID)
    return won


def _end(reservation_ids: list[str], state: Order.State) -> None:
    awaiting = Order.objects.filter(reservation__in=reservation_ids, state=Order.State.AWAITING_PAYMENT)
    awaiting.update(state=state, ended_at=Now())


def owe_refund(order: Order) -> None:
    """Money came for an order that had ended. One that was paid by another payment stays paid."""
    ended = Order.objects.filter(pk=order.pk, state__in=[Order.State.EXPIRED, Order.State.CANCELLED])
    ended.update(state=Order.State.REFUND_DUE)


def refunded(order: Order) -> None:
    due = Order.objects.filter(pk=order.pk, state=Order.State.REFUND_DUE)
    due.update(state=Order.State.REFUNDED, refunded_at=Now())
