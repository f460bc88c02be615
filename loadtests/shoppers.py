"""People at a sale: they look, wait, click, ask what became of it, pay or do not. And the few who cheat (`cheats.py`).

    page -> state, state ... T0 -> ticket -> buy -> poll, poll ... -> pay or walk away
                                     ^ sold out: look again now and then, units may come back

A shopper knows the time as the page's script does: by its own device, set right by the header `X-Server-Now-Ms`.
"""

import json
import time
from collections.abc import Callable
from random import Random
from typing import Any

import gevent

from loadtests.arrivals import Part
from loadtests.wire import Answer, Place, Wire, request

#: What people do when they are refused, and how many of ten do it.
PATIENT, STUBBORN, GONE = "obeys Retry-After", "hammers", "none"
RETRIES = (PATIENT, STUBBORN, GONE)
RETRY_WEIGHTS = (7, 2, 1)
#: Of those who have a unit, the part that walks away from it: from, to.
ABANDON = (0.1, 0.3)
#: Of those who walk away, the part that cancels the order.
SAYS_SO = 0.5
#: Of those who hear SOLD_OUT, the part that stays and looks whether units come back.
HOPEFUL = 0.5
#: Seconds until somebody who hammers sends again, and how often at most.
HAMMER_SECONDS, TRIES_MAXIMUM = 0.1, 40
#: Seconds after which the others come back when they were not told when.
PAUSE_SECONDS = 1.0
#: Seconds in which people find their card: from, to.
THINK_SECONDS = (0.3, 2.0)
#: Seconds between two looks at the sale while nothing is for sale, at least.
LOOK_SECONDS = 1.0
#: Characters of a ticket that tell it from all others: what comes first in its seal is the same for many.
TICKET_TAIL = 24
#: Words after which the same ticket may be sent again.
WORTH_REPEATING = {"BUSY", "SLOW_DOWN", "PAUSED", "UNKNOWN", ""}

JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html"}
SENT = {**JSON, "Content_Type": "application/json"}
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


class Shopper:
    """One person with one cookie and one connection."""

    role = "shopper"

    def __init__(self, part: Part, place: Place, number: int, cookie: str) -> None:
        self.plan, self.book, self.part, self.place = part.plan, part.book, part, place
        self.number, self.cookie = number, cookie
        self.random = Random(f"{part.plan.seed}/person/{number}")
        self.wire = Wire(place)
        self.retry = self.random.choices(RETRIES, RETRY_WEIGHTS)[0]
        self.page = f"/sales/{part.plan.sale}/"
        self.state: dict[str, Any] = {}
        #: The shop's clock as this person's device has learnt it.
        self._ahead_ms = 0.0

    # --- asking

    def get(self, kind: str, path: str, at: float | None = None, read: Any = None, **headers: str) -> Answer | None:
        return self._ask(request("GET", path, self.place, self.cookie, **(headers or JSON)), kind, at, read)

    def post(
        self, kind: str, path: str, fields: dict[str, Any], at: float | None = None, **noted: Any
    ) -> Answer | None:
        body = json.dumps(fields).encode()
        return self._ask(request("POST", path, self.place, self.cookie, body, **SENT), kind, at, **noted)

    def _ask(
        self,
        sent: bytes,
        kind: str,
        at: float | None,
        read: Callable[[Answer], tuple[str, str]] | None = None,
        **noted: Any,
    ) -> Answer | None:
        before_ms = self._device_ms()
        answer = self.book.ask(self.wire, sent, kind, self.role, self.number, at, read or said, **noted)
        if answer and (told := answer.header(b"x-server-now-ms")):
            self._ahead_ms = float(told) - (before_ms + self._device_ms()) / 2
        return answer

    # --- knowing the time

    def _device_ms(self) -> float:
        return time.time() * 1000 + self.plan.devices_off_ms

    def shop_ms(self) -> float:
        """What this person takes for the shop's time."""
        return self._device_ms() + self._ahead_ms

    @property
    def is_over(self) -> bool:
        return self.book.now() * 1000 >= self.plan.ends_at_ms

    # --- looking and waiting

    def look(self, at: float | None = None) -> None:
        self.get("page", self.page, at, _nothing, **HTML)

    def look_at_state(self) -> None:
        if answer := self.get("state", self.page + "state", read=_phase):
            self.state = answer.json() if answer.status == 200 else self.state

    def wait_for_the_opening(self) -> None:
        """Look at the state as often as the shop asks for, and sleep as soon as the next look would come too late."""
        while not self.is_over:
            self.look_at_state()
            pause = self._poll_seconds()
            if self.shop_ms() + pause * 1000 >= self.opens_at_ms:
                break
            gevent.sleep(pause)
        self.part.opened.wait()
        gevent.sleep(max(0.0, (self.opens_at_ms - self.shop_ms()) / 1000))

    @property
    def opens_at_ms(self) -> float:
        return float(self.state.get("opens_at_ms") or self.plan.opens_at_ms)

    def _poll_seconds(self) -> float:
        """As the page's script does it: what the shop says, and up to a tenth more."""
        return float(self.state.get("poll_after_ms") or 1000) / 1000 * self.random.uniform(1, 1.1)

    # --- buying

    def live(self, at: float, clicks_after: float) -> None:
        """The whole evening of somebody who waits for the opening."""
        self.look(at)
        self.wait_for_the_opening()
        clicks_at = max(self.book.now(), self.plan.opens_at_ms / 1000 + clicks_after)
        gevent.sleep(max(0.0, clicks_at - self.book.now()))
        self.buy_until_sold_out(clicks_at)
        self.wire.close()

    def buy_until_sold_out(self, at: float | None) -> None:
        hopeful = self.random.random() < HOPEFUL
        while not self.is_over:
            word = self.try_to_buy(at)
            if word != "SOLD_OUT" or not hopeful or not self._units_came_back():
                return
            at = None

    def try_to_buy(self, at: float | None = None) -> str:
        """Ticket and click; answers the last word of it. Whoever has a unit follows it to its end."""
        ticket, word = self.ask_for_ticket(at)
        if ticket is None:
            return word
        answer, word = self.click(ticket)
        if word in ("RESERVED", "REPEATED") and answer:
            self.follow(answer.json())
        return word

    def ask_for_ticket(self, at: float | None = None) -> tuple[str | None, str]:
        answer, word = self._until_answered("ticket", "ticket", {"offer": self.plan.offer}, at)
        return (answer.json().get("ticket"), word) if answer and word == "TICKET" else (None, word)

    def click(self, ticket: str, units: int = 1) -> tuple[Answer | None, str]:
        fields = {"offer": self.plan.offer, "units": units, "ticket": ticket}
        return self._until_answered("buy", "buy", fields, None, ticket=ticket[-TICKET_TAIL:])

    def _until_answered(
        self, kind: str, where: str, fields: dict[str, Any], at: float | None, **noted: Any
    ) -> tuple[Answer | None, str]:
        """The answer that decides, after as many tries as this person makes."""
        for _ in range(TRIES_MAXIMUM):
            answer = self.post(kind, self.page + where, fields, at, **noted)
            word = said(answer)[0] if answer else ""
            too_early = word == "NOT_OPEN" and self.book.now() * 1000 > self.plan.opens_at_ms
            if self.is_over or not (too_early or word in WORTH_REPEATING):
                return answer, word
            if self.retry == GONE and not too_early:
                return answer, word
            gevent.sleep(HAMMER_SECONDS if too_early else self._pause_after(answer))
            at = None
        return answer, word

    def _pause_after(self, answer: Answer | None) -> float:
        if self.retry == STUBBORN:
            return HAMMER_SECONDS
        told = answer.header(b"retry-after") if answer else None
        return float(told) if told and told.isdigit() else PAUSE_SECONDS

    def _units_came_back(self) -> bool:
        """Look now and then; False when the evening is over."""
        while not self.is_over:
            gevent.sleep(max(LOOK_SECONDS, self._poll_seconds()))
            self.look_at_state()
            if self.state.get("phase") == "open" and any(offer["available"] for offer in self.state.get("offers", [])):
                return True
        return False

    # --- what became of it

    def follow(self, click: dict[str, Any]) -> None:
        """Until it is placed; then pay, or walk away while there is still time for somebody else to buy it."""
        told = self.poll_until({"held"}, click["status_url"], click.get("receipt", ""))
        if told.get("state") != "placed":
            return
        somebody_may_follow = self.book.now() * 1000 < self._last_abandoning_ms()
        if somebody_may_follow and self.random.random() < self.random.uniform(*ABANDON):
            self.walk_away(told["order_url"])
            return
        gevent.sleep(self.random.uniform(*THINK_SECONDS))
        self.pay(told["order_url"])
        self.poll_until({"held", "placed"}, click["status_url"], click.get("receipt", ""))

    def walk_away(self, order_url: str) -> None:
        """Some say so, the others let their time run out."""
        if self.random.random() < SAYS_SO:
            gevent.sleep(self.random.uniform(*THINK_SECONDS))
            self.post("cancel", order_url + "cancel", {})

    def _last_abandoning_ms(self) -> float:
        """Whose hold ends later than a third before the end leaves nobody the time to buy its units."""
        return (self.plan.opens_at_ms + 2 * self.plan.ends_at_ms) / 3 - self.plan.hold_seconds * 1000

    def poll_until(self, states: set[str], url: str, receipt: str) -> dict[str, Any]:
        """Ask while it is in one of these states; answers what was told last."""
        told: dict[str, Any] = {}
        while not self.is_over:
            answer = self.get("poll", url, None, lambda answer: _poll(answer, url), **JSON, X_Receipt=receipt)
            told = answer.json() if answer and answer.status == 200 else told
            if answer and answer.status in (401, 404):
                return told
            if told and told["state"] not in states:
                return told
            gevent.sleep(float(told.get("poll_after_ms") or 1000) / 1000)
        return told

    def pay(self, order_url: str) -> None:
        """At the shop, then on the provider's page, again when either is away."""
        while not self.is_over:
            answer = self.post("pay", order_url + "pay", {})
            if answer is None or answer.status == 503:
                gevent.sleep(PAUSE_SECONDS)
                continue
            if answer.status == 200 and (url := answer.json().get("pay_url")):
                self._pay_at(url)
            return

    def _pay_at(self, url: str) -> None:
        place = Place.of(url)
        wire = Wire(place, patience_seconds=10.0)
        sent = request("POST", "/" + url.split("/", 3)[3], place, body=b"action=pay", **FORM)
        self.book.ask(wire, sent, "provider", self.role, self.number)
        wire.close()


def said(answer: Answer) -> tuple[str, str]:
    """The word of a ticket or a click, and the reservation it is about."""
    told = answer.json()
    if "ticket" in told:
        return "TICKET", ""
    return str(told.get("outcome", "")), str(told.get("reservation", ""))


def _phase(answer: Answer) -> tuple[str, str]:
    return str(answer.json().get("phase", "")), ""


def _poll(answer: Answer, url: str) -> tuple[str, str]:
    told = answer.json()
    return str(told.get("state") or told.get("outcome", "")), url.rpartition("/")[2]


def _nothing(answer: Answer) -> tuple[str, str]:
    return "", ""
