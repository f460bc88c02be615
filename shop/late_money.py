"""Money that came after its hold had ended: it buys other units while there are some, else it goes back.

1. The order is told which reservation it asks for; its id follows from the charge, so a repeat asks for the same.
2. Redis decides, like for everybody, but without asking for an open sale.
3. The drain records the reservation and gives it to the order instead of making a new one.
4. The next look finds it held by the order, and pays it.
"""

import hashlib
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from inventory import effects, reservations
from inventory.models import Reservation
from inventory.outcomes import Wish
from shop import orders, tickets
from shop.dead_tasks import in_turn
from shop.models import Order, Payment

#: So long late money waits for units, when Redis cannot be asked or the sale is paused; then it goes back.
PATIENCE = timedelta(minutes=10)


def settle() -> int:
    """Bring every late payment a step further; answers how many found their end."""
    late = Payment.objects.filter(state=Payment.State.LATE).order_by("pk").values_list("pk", flat=True)
    return in_turn(late, _settle)


def _settle(pk: int) -> bool:
    payment = Payment.objects.select_related("order").get(pk=pk)
    order, wanted = payment.order, _wanted(payment)
    if order.reservation_id == wanted:
        return _pay(payment)
    if not effects.is_told(order.reservation_id):
        return False  # to Redis, the buyer still has the units that ran out

    Order.objects.filter(pk=order.pk).update(late_reservation=wanted)
    refused = Reservation.objects.filter(pk=wanted, state=Reservation.State.REFUSED).exists()
    return (refused or not _may_wait(payment)) and _give_back(payment)


def _wanted(payment: Payment) -> str:
    nonce = hashlib.blake2b(payment.charge.encode(), digest_size=16).digest()
    return tickets.reservation_id(payment.order.offer_id, nonce)


def _may_wait(payment: Payment) -> bool:
    """Ask Redis for the units. True while they are held, or while a better answer may still come."""
    order = payment.order
    wish = Wish(_wanted(payment), order.buyer_id, order.units, reason="late")
    [answer] = reservations.reserve(order.offer_id, [wish])
    if answer.outcome.is_final:
        return answer.outcome.yours
    return Payment.objects.filter(pk=payment.pk, succeeded_at__gt=Now() - PATIENCE).exists()


def _pay(payment: Payment) -> bool:
    with transaction.atomic():
        locked = Payment.objects.select_for_update().get(pk=payment.pk)
        if locked.state != Payment.State.LATE:
            return False
        if orders.pay(payment.order):
            Payment.objects.filter(pk=payment.pk).update(state=Payment.State.SUCCEEDED)
            return True
    return _give_back(payment)  # this hold has run out too, while nobody looked


def _give_back(payment: Payment) -> bool:
    with transaction.atomic():
        late = Payment.objects.filter(pk=payment.pk, state=Payment.State.LATE)
        if late.update(state=Payment.State.REFUND_DUE):
            orders.owe_refund(payment.order)
            return True
    return False
