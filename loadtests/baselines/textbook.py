"""The usual way: a cached page, a counter in Redis that a script takes from, and a Celery task for each order.

python -m loadtests.baselines.textbook 1000          # makes the table, and an offer of so many units
gunicorn --threads 16 loadtests.baselines.textbook:application
celery -A loadtests.baselines.textbook worker -c 1
"""

import os
import sys

import django
import redis
from celery import Celery
from django.conf import settings
from django.core.cache import cache
from django.core.signing import BadSignature
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.urls import path

from loadtests.baselines import _settings

settings.configure(**_settings.of(__name__, os.environ))
django.setup()

app = Celery("textbook", broker=os.environ["BROKER_URL"])
app.conf.update(task_ignore_result=True, task_default_queue="textbook")
stock = redis.Redis.from_url(os.environ["STOCK_REDIS_URL"])
take = stock.register_script("""
    if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'LIMIT_REACHED' end
    if tonumber(redis.call('GET', KEYS[1]) or 0) <= 0 then return 'SOLD_OUT' end
    redis.call('DECR', KEYS[1])
    redis.call('SADD', KEYS[2], ARGV[1])
    return 'RESERVED'
""")
PAGE = "<!doctype html><title>Sale</title><h1>Offer {{ offer }}</h1><p>{{ text }}</p><button>Buy</button>"


class Order(models.Model):  # noqa: DJ008  nobody prints one
    offer_id = models.BigIntegerField()
    buyer_id = models.BigIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "textbook"
        constraints = [models.UniqueConstraint(fields=["offer_id", "buyer_id"], name="one_textbook_order_of_a_buyer")]


@app.task
def place_order(offer_id: int, buyer_id: int) -> None:
    Order.objects.get_or_create(offer_id=offer_id, buyer_id=buyer_id)


def page(_: HttpRequest, offer_id: int) -> HttpResponse:
    return HttpResponse(cache.get_or_set(f"page:{offer_id}", lambda: _render(offer_id), 60))


def _render(offer_id: int) -> str:
    return engines["django"].from_string(PAGE).render({"offer": offer_id, "text": "Only today. " * 900})


def buy(request: HttpRequest, offer_id: int) -> JsonResponse:
    try:
        buyer_id = int(request.get_signed_cookie("buyer"))
    except (KeyError, BadSignature):
        return JsonResponse({"outcome": "SIGN_IN"}, status=401)
    outcome = take(keys=[f"stock:{offer_id}", f"buyers:{offer_id}"], args=[buyer_id]).decode()
    if outcome != "RESERVED":
        return JsonResponse({"outcome": outcome}, status=409)
    place_order.delay(offer_id, buyer_id)
    return JsonResponse({"outcome": outcome}, status=202)


urlpatterns = [
    path("livez", lambda _: JsonResponse({})),
    path("offers/<int:offer_id>/", page),
    path("offers/<int:offer_id>/buy", buy),
]
application = get_wsgi_application()


def prepare(units: int) -> None:
    _settings.make_tables(connection, Order)
    app.control.purge()
    stock.set("stock:1", units)


if __name__ == "__main__":
    prepare(int(sys.argv[1]))
