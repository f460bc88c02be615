"""The usual way: a Celery task for each order, written and run as a careful tutorial would."""

import os
import signal
import time

from django.db.models import Max, Min

from loadtests.contenders.orders_one_by_one import QUEUE, place_order
from loadtests.contenders.selling import open_offer, wish
from loadtests.figures import Sample
from loadtests.house import House
from shop.models import Order

#: Tasks for each second of the measurement: about as many as are consumed in that time.
TASKS_A_SECOND = 200
#: The fewest, so that start and end do not matter.
TASKS_MINIMUM = 100
#: Seconds between two looks, and seconds after which a worker that makes no progress is given up.
LOOK_SECONDS, PATIENCE_SECONDS = 0.05, 60

WORKER = [
    *("-m", "celery", "-A", "shop", "worker", "-n", "one-by-one@bench"),
    *("--pool", "solo", "-Q", QUEUE, "-I", "loadtests.contenders.orders_one_by_one", "--loglevel", "ERROR"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
]


class TaskPerOrder:
    """First all tasks are published while the worker is stopped, then the worker runs alone: neither slows the other.

    The worker's time is from the first commit to the last, by PostgreSQL's clock.
    """

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        worker = self._house.keep_running("one-by-one", lambda: self._house.worker("one-by-one", WORKER))
        tasks = max(TASKS_MINIMUM, int(TASKS_A_SECOND * seconds))
        os.kill(worker, signal.SIGSTOP)
        try:
            published = _publish(open_offer(), self._house.people(tasks))
        finally:
            os.kill(worker, signal.SIGCONT)
        return [Sample(tasks / published, "orders/s", "publish"), Sample(_consumed(tasks), "orders/s", "consume")]


def _publish(offer_id: int, buyers: list[int]) -> float:
    """The seconds that it took."""
    wishes = [wish(offer_id, buyer) for buyer in buyers]
    started = time.perf_counter()
    for each in wishes:
        place_order.delay(each.reservation_id, offer_id, each.buyer_id, each.units)
    return time.perf_counter() - started


def _consumed(tasks: int) -> float:
    """Orders per second, when all are placed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while Order.objects.count() < tasks:
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not place all orders")
        time.sleep(LOOK_SECONDS)
    span = Order.objects.aggregate(first=Min("placed_at"), last=Max("placed_at"))
    seconds: float = (span["last"] - span["first"]).total_seconds()
    return (tasks - 1) / seconds
