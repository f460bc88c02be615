"""Celery's doors. Each calls one function and has no logic; each may run twice, late or never without harm."""

from celery import shared_task
from django.core.cache import cache

from inventory import effects, outbox, recovery, rereading, reservations, stock
from shop import gauges, late_money, orders, payments, preheating
from shop.models import Sale


@shared_task(name="shop.drain")
def drain() -> int:
    return outbox.drain_all(orders.place)


@shared_task(name="shop.settle")
def settle() -> int:
    return effects.apply_pending()


@shared_task(name="shop.expire")
def expire() -> int:
    ended = 0
    while batch := reservations.expire_due(orders.expire):
        ended += batch
    return ended


@shared_task(name="shop.watch")
def watch() -> list[int]:
    rereading.watch(orders.place, orders.follow)  # first: a recovery believes PostgreSQL
    return recovery.watch(orders.place)


@shared_task(name="shop.tidy")
def tidy() -> int:
    return outbox.trim_all() + stock.finish_changes()


@shared_task(name="shop.late_money")
def settle_late_money() -> int:
    return late_money.settle()


@shared_task(name="shop.refund")
def refund() -> int:
    return payments.refund_due()


@shared_task(name="shop.pull")
def pull() -> int:
    return payments.pull()


@shared_task(name="shop.invalidate")
def invalidate(keys: list[str]) -> None:
    cache.delete_many(keys)


@shared_task(name="shop.preheat")
def preheat(slug: str) -> list[str]:
    return preheating.run(Sale.objects.get(slug=slug))


@shared_task(name="shop.preheat_due")
def preheat_due() -> int:
    return preheating.run_due()


@shared_task(name="shop.look")
def look() -> None:
    gauges.look()
