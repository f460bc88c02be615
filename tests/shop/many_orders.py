"""More orders than a page shows, written past the domain, because the click of each would take minutes."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from inventory.models import Reservation, Stock
from shop.models import Order, Payment, Sale


def many_orders(sale: Sale, number: int) -> None:
    """Each of a buyer of its own, awaiting payment, with a payment that is pending."""
    offer, now = sale.offers.get(), timezone.now()
    people = User.objects.bulk_create(User(username=f"one-of-many-{n}") for n in range(number))
    reservations = Reservation.objects.bulk_create(
        Reservation(
            id=f"{offer.pk}-many{n:018}",
            stock_id=offer.pk,
            buyer_id=person.pk,
            units=1,
            reserved_at=now,
            expires_at=now + timedelta(hours=1),
        )
        for n, person in enumerate(people)
    )
    Stock.objects.filter(pk=offer.pk).update(quantity=number, held=number)
    orders = Order.objects.bulk_create(
        Order(
            reservation=reservation,
            buyer_id=reservation.buyer_id,
            offer=offer,
            title=offer.product.title,
            units=1,
            total_minor=offer.price_minor,
            currency="CNY",
            pay_until=reservation.expires_at,
        )
        for reservation in reservations
    )
    Payment.objects.bulk_create(
        Payment(order=order, charge=f"ch_{order.number}", amount_minor=order.total_minor, currency="CNY")
        for order in orders
    )
