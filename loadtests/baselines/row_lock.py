"""The careful way: one transaction, which locks the offer's row while it counts.

python -m loadtests.baselines.row_lock 1000          # makes the tables, and an offer of so many units
gunicorn loadtests.baselines.row_lock:application
"""

import os
import sys

import django
from django.conf import settings
from django.core.signing import BadSignature
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from loadtests.baselines import _settings

settings.configure(**_settings.of(__name__, os.environ))
django.setup()


class Offer(models.Model):  # noqa: DJ008  nobody prints one
    available = models.PositiveIntegerField()

    class Meta:
        app_label = "row_lock"


class Order(models.Model):  # noqa: DJ008  nobody prints one
    offer = models.ForeignKey(Offer, models.CASCADE)
    buyer_id = models.BigIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "row_lock"
        constraints = [models.UniqueConstraint(fields=["offer", "buyer_id"], name="one_order_of_a_buyer")]


def buy(request: HttpRequest, offer_id: int) -> JsonResponse:
    try:
        buyer_id = int(request.get_signed_cookie("buyer"))
    except (KeyError, BadSignature):
        return JsonResponse({"outcome": "SIGN_IN"}, status=401)
    with transaction.atomic():
        offer = Offer.objects.select_for_update().get(pk=offer_id)
        if offer.available == 0:
            return JsonResponse({"outcome": "SOLD_OUT"}, status=409)
        order, new = Order.objects.get_or_create(offer=offer, buyer_id=buyer_id)
        if not new:
            return JsonResponse({"outcome": "LIMIT_REACHED"}, status=409)
        offer.available -= 1
        offer.save(update_fields=["available"])
    return JsonResponse({"outcome": "RESERVED", "order": order.pk}, status=201)


urlpatterns = [path("livez", lambda _: JsonResponse({})), path("offers/<int:offer_id>/buy", buy)]
application = get_wsgi_application()


def prepare(units: int) -> None:
    _settings.make_tables(connection, Offer, Order)
    Offer.objects.create(pk=1, available=units)


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
