"""Signed callbacks to the shop: tried at once, then again and again until it answers 2xx.

A callback that was sent but not yet written down as delivered is sent again after a crash: at least once,
never lost.
"""

import heapq
import http.client
import itertools
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from .provider_faults import Faults
from .provider_ledger import Event, Ledger, now_ms
from .provider_signature import HEADER, sign

#: Seconds the shop has for its answer: the shopper waits on the hosted page meanwhile.
TIMEOUT_SECONDS = 2

#: Seconds before the second try, doubled for each one after it, with jitter so that a shop that
#: returns is not met by all its callbacks in the same instant.
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30

#: How long an event is worth telling.
GIVE_UP_AFTER_MS = 60 * 60 * 1000

#: Threads that send: a shop that hangs costs each of them a timeout, so one alone would fall behind.
SENDERS = 8

#: Seconds the fault `reorder` gathers callbacks before it sends the newest first.
REORDER_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(order=True)
class Batch:
    """Events to try at a moment, by one sender, the newest first; nearly always there is one."""

    due: float
    number: int
    events: list[Event] = field(compare=False)
    tries: int = field(compare=False)


class NotTaken(Exception):
    """The shop did not answer 2xx in time."""


class Callbacks:
    def __init__(self, ledger: Ledger, secret: bytes, faults: Callable[[], Faults]) -> None:
        self._ledger = ledger
        self._secret = secret
        self._faults = faults
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[Batch] = []
        self._gathering: Batch | None = None

    def start(self) -> None:
        """Take up what an earlier process left unsaid, and send in the background from now on."""
        for event in self._ledger.unheard():
            self.send_soon(event)
        for _ in range(SENDERS):
            threading.Thread(target=self._send_forever, daemon=True).start()

    def send_now(self, event: Event) -> None:
        """Try once before this returns, unless a fault says later; what fails goes on in the background."""
        if self._faults().reorder or self._faults().hold_callbacks_ms:
            self.send_soon(event)
        else:
            self._try(event, tries=0)

    def send_soon(self, event: Event) -> None:
        """Send in the background, after whatever delay the faults ask for."""
        faults = self._faults()
        delay_seconds = faults.hold_callbacks_ms / 1000
        if faults.reorder:
            self._gather(event, delay_seconds + REORDER_SECONDS)
        else:
            self._wait([event], delay_seconds, tries=0)

    def _gather(self, event: Event, delay_seconds: float) -> None:
        with self._changed:
            if self._gathering:
                self._gathering.events.append(event)
            else:
                self._gathering = self._wait([event], delay_seconds, tries=0)

    def _wait(self, events: list[Event], delay_seconds: float, tries: int) -> Batch:
        with self._changed:
            batch = Batch(time.monotonic() + delay_seconds, next(self._numbers), events, tries)
            heapq.heappush(self._waiting, batch)
            self._changed.notify_all()
            return batch

    def _send_forever(self) -> None:
        while True:
            batch = self._next_due()
            for event in reversed(batch.events):
                self._try(event, batch.tries)

    def _next_due(self) -> Batch:
        with self._changed:
            while (seconds := self._seconds_until_due()) is None or seconds > 0:
                self._changed.wait(seconds)

            batch = heapq.heappop(self._waiting)
            if batch is self._gathering:
                self._gathering = None
            return batch

    def _seconds_until_due(self) -> float | None:
        return self._waiting[0].due - time.monotonic() if self._waiting else None

    def _try(self, event: Event, tries: int) -> None:
        """Deliver, or come back later. What goes wrong stays here: it must not end a sender or a payment."""
        try:
            self._ledger.settle(event, self._deliver(event))
            return
        except NotTaken as problem:
            if tries == 0:  # once is enough: a shop that is down for long would fill the log
                logger.info("%s will be tried again: %s", event.event_id, problem)
        except Exception:
            logger.exception("%s could not be sent", event.event_id)

        self._wait([event], _pause_seconds(tries), tries + 1)

    def _deliver(self, event: Event) -> str:
        """How the event left this house; `NotTaken` while it has to stay."""
        faults = self._faults()
        if faults.drop_callbacks:
            return "dropped"

        try:
            self._post(event)
        except NotTaken as problem:
            if now_ms() - event.occurred_at_ms < GIVE_UP_AFTER_MS:
                raise
            logger.error("%s is given up: %s", event.event_id, problem)
            return "given up"

        for _ in range(faults.repeat - 1):
            with suppress(NotTaken):
                self._post(event)
        return "delivered"

    def _post(self, event: Event) -> None:
        """Hand the event to the shop, or raise `NotTaken`. No proxy is asked, and no redirect followed."""
        url = urlsplit(self._ledger.charge(event.charge).callback_url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        body = json.dumps(asdict(event)).encode()
        headers = {"Content-Type": "application/json", HEADER: sign(self._secret, body)}

        connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = connect(str(url.hostname), url.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", target, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise NotTaken(str(error) or type(error).__name__) from error
        finally:
            connection.close()

        if not 200 <= status < 300:
            raise NotTaken(f"the shop answered {status}")


def _pause_seconds(tries: int) -> float:
    longest = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(tries, 10))
    return random.uniform(longest / 2, longest)
