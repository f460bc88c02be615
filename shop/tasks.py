"""Celery's doors. Each calls one function and has no logic; each may run twice, late or never without harm.

Each names its policy: how often it is tried again, and what is done with one that always fails.
"""

from typing import Any

from celery.signals import task_failure

from inventory import effects, outbox, recovery, rereading, reservations, stock
from resilience.cache.away import TierAway
from shop import dead_tasks, gauges, invalidations, late_money, orders, payments, preheating
from shop.away import DATABASE_AWAY
from shop.models import Sale
from shop.task_policies import task

task_failure.connect(dead_tasks.hear)


@task("shop.drain", "repeated")
def drain() -> int:
    return outbox.drain_all(orders.place)


@task("shop.settle", "repeated")
def settle() -> int:
    return effects.apply_pending()


@task("shop.expire", "repeated")
def expire() -> int:
    ended = 0
    while batch := reservations.expire_due(orders.expire):
        ended += batch
    return ended


@task("shop.watch", "repeated")
def watch() -> list[int]:
    rereading.watch(orders.place, orders.follow)  # first: a recovery believes PostgreSQL
    return recovery.watch(orders.place)


@task("shop.tidy", "repeated")
def tidy() -> int:
    return outbox.trim_all() + stock.finish_changes()


@task("shop.late_money", "repeated")
def settle_late_money() -> int:
    return late_money.settle()


@task("shop.refund", "repeated")
def refund() -> int:
    return payments.refund_due()


@task("shop.pull", "repeated")
def pull() -> int:
    return payments.pull()


@task("shop.invalidate", "until too late", on=TierAway, bind=True)
def invalidate(self: Any, keys: list[str]) -> None:
    invalidations.try_again(keys, self.request.id)


@task("shop.preheat", "sent once", on=(preheating.Incomplete, *DATABASE_AWAY))
def preheat(slug: str) -> list[str]:
    return preheating.run(Sale.objects.get(slug=slug))


@task("shop.preheat_due", "repeated")
def preheat_due() -> int:
    return preheating.run_due()


@task("shop.look", "repeated")
def look() -> None:
    gauges.look()
