"""The parts that processes play in a World: a worker, a crowd of shoppers, staff, and errands.

Each is the shop's own code, called as Celery, the views and the admin call it. What a fault of the world does to it is
waited out as they do; anything else ends the process with a traceback, which fails the test.
"""

import importlib
import logging
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import django
from django.apps import apps

if not apps.ready:  # in the process that all others are forked from; pytest has set Django up before
    django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from inventory import doorbell, outbox, stock, verification
from inventory.models import Stock
from inventory.outcomes import Outcome
from resilience import failpoint
from shop import buying, demo, orders, tasks, tickets
from shop import verification as shop_verification
from shop.buyers import Buyer
from shop.models import Order
from tests.faults.history import Log
from tests.people import pay

#: Seconds between two looks of a worker at what there is to do.
LOOK_SECONDS = 0.02
#: Seconds after a fault before anybody tries again.
FAULT_SECONDS = 0.05
#: Seconds between two polls of a shopper.
POLL_SECONDS = 0.02
#: Seconds a shopper polls before going on with something else.
PATIENT_SECONDS = 1.0
#: Times a shopper presses Buy with one ticket while the answer is not final.
PRESSES = 4
#: Threads of one process of shoppers.
THREADS = 6

#: What a broken world does to whoever asks it.
AWAY = (*outbox.AWAY, stock.ShelfLost)

_device = b"\0" * 8

logger = logging.getLogger(__name__)


def play(log: str, failpoints: str, part: Callable[..., None], *arguments: Any) -> None:
    """What every process does first: its words go to the log, its failpoints are set, and nobody is rung for."""
    _write_to(Path(log))
    os.environ["FAILPOINT"] = failpoints
    importlib.reload(failpoint)
    doorbell.install(None)  # workers look by themselves, and nobody waits at the broker
    part(*arguments)


def _write_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)


def answer(there: Connection, work: Callable[..., Any], *arguments: Any) -> None:
    """An errand: its result goes back."""
    there.send(work(*arguments))


# --- Workers


def worker(slot: str) -> None:
    """What two Celery queues and the beat do, one after the other, until the test ends."""
    os.environ["WORKER_SLOT"] = slot
    todo = (tasks.drain, tasks.settle, tasks.expire, tasks.watch, tasks.tidy, tasks.settle_late_money)
    while _test_goes_on():
        for task in todo:
            _waiting_out_faults(task)
        time.sleep(LOOK_SECONDS)


def _test_goes_on() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def _waiting_out_faults(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except AWAY as away:
        logger.warning("%s %s: %r", os.getpid(), work, away)
        connection.close()
        time.sleep(FAULT_SECONDS)
        return None


# --- Shoppers


def shoppers(
    history: str,
    offer_id: int,
    buyer_ids: list[int],
    limit: int,
    endings: tuple[str, ...],
    seed: str,
    seconds: float,
) -> None:
    """Some threads of people who buy, poll, and then pay, cancel or forget about it, until the time is over."""
    until = time.monotonic() + seconds
    with Log(Path(history)) as log:
        choices = [Random(f"{seed}-{number}") for number in range(THREADS)]
        people = [_Shopper(offer_id, buyer_ids, limit, endings, choice, log) for choice in choices]
        threads = [threading.Thread(target=person.shop_until, args=(until,), daemon=True) for person in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@dataclass
class _Shopper:
    offer_id: int
    buyer_ids: list[int]
    limit: int
    endings: tuple[str, ...]
    choice: Random
    log: Log

    def shop_until(self, until: float) -> None:
        while time.monotonic() < until and _test_goes_on():
            try:
                self._shop_once()
            except AWAY:
                connection.close()
                time.sleep(FAULT_SECONDS)
            except BaseException as error:
                self.log.broken(repr(error))
                raise
        connection.close()

    def _shop_once(self) -> None:
        buyer = Buyer(self.choice.choice(self.buyer_ids), _device, 0)
        units = self.choice.randint(1, self.limit)
        click = self._press(buyer, units)
        if click.receipt is None:
            time.sleep(POLL_SECONDS)
            return
        if self._is_placed(buyer, click.reservation_id, click.receipt):
            self._end(click.reservation_id)

    def _press(self, buyer: Buyer, units: int) -> buying.Click:
        """Buy, and again with the same ticket while a better answer may come."""
        _, ticket = tickets.issue(self.offer_id, buyer)
        for _ in range(self.choice.randint(1, PRESSES)):
            self.log.asked(ticket.reservation_id, buyer.id, units)
            click = buying.buy(ticket, units)
            self.log.answered(ticket.reservation_id, click.outcome, click.receipt)
            if click.outcome.is_final:
                break
            time.sleep(POLL_SECONDS)
        return click

    def _is_placed(self, buyer: Buyer, reservation_id: str, receipt: str) -> bool:
        until = time.monotonic() + PATIENT_SECONDS
        while time.monotonic() < until:
            found = buying.standing(reservation_id, buyer, receipt)
            assert found, f"{reservation_id} is unknown, in spite of its receipt"
            self.log.told(reservation_id, found.state)
            if found.state != "held":
                return found.state == "placed"
            time.sleep(POLL_SECONDS)
        return False

    def _end(self, reservation_id: str) -> None:
        order = Order.objects.filter(reservation=reservation_id).first()
        if order is None:  # late money has given it another reservation
            return
        match self.choice.choice(self.endings):
            case "pay":
                self.log.wants("pay", reservation_id)
                pay(order)
                self.log.has("pay", reservation_id)
            case "cancel":
                self.log.wants("cancel", reservation_id)
                self.log.has("cancel" if orders.cancel(order) else "cancel too late", reservation_id)


def come_back(receipts: list[tuple[str, int, str]]) -> dict[str, str]:
    """The buyers of these reservations (id, buyer, receipt) poll until each hears something; answers what."""
    heard: dict[str, str] = {}
    waiting = list(receipts)
    while waiting:
        for reservation_id, buyer_id, receipt in waiting:
            found = _waiting_out_faults(
                lambda pk=reservation_id, buyer=buyer_id, proof=receipt: buying.standing(
                    pk, Buyer(buyer, _device, 0), proof
                )
            )
            if found and found.state != "held":
                heard[reservation_id] = found.state
        waiting = [one for one in waiting if one[0] not in heard]
        time.sleep(POLL_SECONDS)
    return heard


# --- Staff


def staff(offer_id: int, seed: str, changes: list[int]) -> None:
    """Units come and go by the admin, each change asked for again until it is made."""
    for number, units in enumerate(changes):
        change_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}-{number}")
        while _test_goes_on() and not _waiting_out_faults(
            lambda pk=change_id, asked=units: stock.change(offer_id, asked, reason="test", by="staff", change_id=pk)
        ):
            pass


# --- Errands


def migrate() -> None:
    call_command("migrate", verbosity=0)


def open_sale(slug: str, buyers: int, quantity: int, limit: int, hold: int) -> tuple[int, list[int]]:
    """An open sale of one offer, and new people: the offer's id and theirs."""
    people = User.objects.bulk_create(User(username=f"{slug}-{number}") for number in range(buyers))
    sale = demo.one_sale(slug, demo.Terms(quantity, limit, hold), opens_in_seconds=0)
    return sale.offers.get().pk, [person.pk for person in people]


def last_click(offer_id: int) -> list[str]:
    """Somebody new wants one unit: as long as one is left, the sale sells it. Answers what is wrong about that."""
    levels = stock.levels([offer_id])[offer_id]
    assert levels is not None
    newcomer = User.objects.create(username=f"newcomer-{time.monotonic_ns()}")
    _, ticket = tickets.issue(offer_id, Buyer(newcomer.pk, _device, 0))
    expected = Outcome.RESERVED if levels.available else Outcome.SOLD_OUT
    click = buying.buy(ticket, 1)
    return [] if click.outcome == expected else [f"with {levels.available} units left, a click is {click.outcome}"]


def close_sale(offer_id: int) -> None:
    """The workers of the next round have nothing to do with it."""
    Stock.objects.filter(pk=offer_id).update(archived=True)


def findings(offer_id: int) -> list[str]:
    """Which promises the data break at this moment."""
    found = [*verification.findings(offer_id), *shop_verification.findings(offer_id)]
    return [f"promise {each.promise}: {each.seen}" for each in found]
