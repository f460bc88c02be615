"""Orders: placed by the drain, ended by payment, cancellation or time."""

from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from inventory import reservations
from inventory.models import Reservation
from shop.models import Offer, Order

_AWAITING = Order.State.AWAITING_PAYMENT


def place(held: Sequence[Reservation]) -> dict[str, str]:
    """Make the orders of reservations that have none yet; answers reservation id -> order number for all of them.

    Runs inside the drain's transaction, and again when a drain repeats itself: then it only answers.
    """
    _give_late_ones(held)
    numbers = _numbers_of(held)
    missing = [reservation for reservation in held if reservation.pk not in numbers]
    if missing:
        catalogue = Offer.objects.select_related("product").in_bulk({reservation.stock_id for reservation in missing})
        Order.objects.bulk_create(_order(reservation, catalogue[reservation.stock_id]) for reservation in missing)
        numbers = _numbers_of(held)
    return numbers


def _numbers_of(held: Sequence[Reservation]) -> dict[str, str]:
    orders = Order.objects.filter(reservation__in=[reservation.pk for reservation in held])
    return dict(orders.values_list("reservation_id", "number"))


def _give_late_ones(held: Sequence[Reservation]) -> None:
    """A hold that late money asked for belongs to the order that was paid with it, which awaits payment again."""
    late = {reservation.pk: reservation for reservation in held if reservation.reason == "late"}
    if not late:
        return
    with transaction.atomic():
        asking = Order.objects.select_for_update().filter(late_reservation__in=late)
        for order in asking.exclude(reservation__in=late):
            order.earlier.add(order.reservation)
            order.reservation = late[str(order.late_reservation)]
            order.state, order.ended_at, order.pay_until = _AWAITING, None, order.reservation.expires_at
            order.save(update_fields=["reservation", "state", "ended_at", "pay_until"])


def _order(reservation: Reservation, offer: Offer) -> Order:
    return Order(
        reservation=reservation,
        buyer_id=reservation.buyer_id,
        offer=offer,
        title=offer.product.title,
        units=reservation.units,
        total_minor=offer.price_minor * reservation.units,
        currency=offer.product.currency,
        pay_until=reservation.expires_at,
    )


def expire(reservation_ids: list[str]) -> None:
    """The holds ran out; so do their orders. Runs inside the transaction that ended the holds."""
    _end(reservation_ids, Order.State.EXPIRED)


def cancel(order: Order) -> bool:
    """The buyer gives the units back. False when the order was paid or ended before."""
    with transaction.atomic():
        won = reservations.release(order.reservation_id)
        if won:
            _end([order.reservation_id], Order.State.CANCELLED)
    return won


def pay(order: Order) -> bool:
    """The money has come: the units are sold. False when the hold had ended before. Runs inside a transaction."""
    won = reservations.confirm(order.reservation_id)
    if won:
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
