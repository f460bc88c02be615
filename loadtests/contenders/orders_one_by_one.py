"""The task of `task per order`. A worker imports it by `-I`, after Django is ready.

It is kinder to itself than the drain: it moves no counter, checks no limit and tells no poll.
"""

from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from inventory.models import Reservation
from shop.models import Offer, Order

QUEUE = "one-by-one"


@shared_task(name="bench.place_order", queue=QUEUE, acks_late=True, ignore_result=True)
def place_order(reservation_id: str, offer_id: int, buyer_id: int, units: int) -> None:
    """Safe to repeat, as a task that is acknowledged late must be."""
    offer = Offer.objects.select_related("product", "stock").get(pk=offer_id)
    now = timezone.now()
    pay_until = now + timedelta(seconds=offer.stock.hold_seconds)
    with transaction.atomic():
        _, new = Reservation.objects.get_or_create(
            id=reservation_id,
            defaults={
                "stock": offer.stock,
                "buyer_id": buyer_id,
                "units": units,
                "reserved_at": now,
                "expires_at": pay_until,
            },
        )
        if new:
            Order.objects.create(
                reservation_id=reservation_id,
                buyer_id=buyer_id,
                offer=offer,
                title=offer.product.title,
                units=units,
                total_minor=offer.price_minor * units,
                currency=offer.product.currency,
                pay_until=pay_until,
            )
