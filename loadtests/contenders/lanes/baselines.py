"""The two baselines: a click there, and what the textbook's worker records."""

import itertools
import sys
import time

from django.core.signing import get_cookie_signer
from django.db import connection

from loadtests.contenders.lanes import prepared, serving
from loadtests.contenders.lanes.measuring import loaded, must_be_refused
from loadtests.contenders.lanes.wrk import CONNECTIONS
from loadtests.figures import Sample
from loadtests.house import House
from shop.local.service import Service
from shop.local.tools import CHECKOUT

#: Clicks that are prepared for each second: more than either answers.
CLICKS_A_SECOND = 10_000
ENOUGH = 9_000_000
#: Orders that wait when the worker begins, and seconds until it is given up.
ORDERS, PATIENCE_SECONDS, LOOK_SECONDS = 1_000, 120, 0.05

_buyers = itertools.count(1)


class Click:
    """A new buyer each time, units enough for all."""

    def __init__(self, house: House, name: str) -> None:
        self._house, self._name = house, name

    def measure(self, seconds: float) -> list[Sample]:
        module = f"loadtests.baselines.{self._name}"
        prepare(self._house, module)
        server = serving.behind_gunicorn(self._house, self._name, module)
        ran, samples = loaded(self._house, server, _clicks(int(CLICKS_A_SECOND * max(1.0, seconds))), seconds)
        must_be_refused(ran, 0, self._name)
        return samples


def prepare(house: House, module: str) -> None:
    """An empty table, and an offer with enough."""
    command = [sys.executable, "-m", module, str(ENOUGH)]
    house.run(Service(name="baseline", command=command, environment=house.environment, folder=CHECKOUT))


def _clicks(count: int) -> list[bytes]:
    """With the cookie that Django's `set_signed_cookie` makes."""
    sign = get_cookie_signer(salt="buyer").sign
    path = "/offers/1/buy"
    return [prepared.post(path, "{}", f"buyer={sign(buyer)}") for buyer in itertools.islice(_buyers, count)]


class TextbookWorker:
    """One process takes the tasks that clicks have left, and inserts a row for each: from the first row to the last."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        module = "loadtests.baselines.textbook"
        prepare(self._house, module)
        server = serving.behind_gunicorn(self._house, "textbook", module)
        loaded(self._house, server, _clicks(CLICKS_A_SECOND), 1, CONNECTIONS)
        worker = Service(
            name="textbook-worker",
            command=[
                *(sys.executable, "-m", "celery", "-A", module, "worker", "-c", "1", "-Q", "textbook"),
                *("--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            environment=self._house.environment,
            folder=CHECKOUT,
        )
        with self._house.running(worker):
            return [Sample(_recorded_a_second(), "orders/s")]


def _recorded_a_second() -> float:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(_COUNT)
            [count, seconds] = cursor.fetchone()
        if count >= ORDERS:
            return float((count - 1) / seconds)
        time.sleep(LOOK_SECONDS)
    raise RuntimeError("the textbook's worker did not record the orders")


_COUNT = "SELECT count(*), extract(epoch FROM max(placed_at) - min(placed_at)) FROM textbook_order"
