"""Those who cheat. Whatever they try is written down as a cheat; the verdict wants to see none of them succeed."""

import secrets
from typing import Any, ClassVar, Self

import gevent

from loadtests.arrivals import Part
from loadtests.records import CHEAT
from loadtests.shoppers import TICKET_TAIL, Shopper, said
from loadtests.wire import Answer, Place

#: Seconds between two tries of somebody who cannot wait for the opening, and how long before it the tries begin.
EARLY_SECONDS, EARLY_BEFORE_SECONDS = 0.25, 3.0
#: How often somebody who cheats tries the same thing.
TRIES = 5
#: Seconds until somebody looks again for a ticket to steal.
WAIT_SECONDS = 0.2
#: Tickets of honest people that thieves can see in this process.
SEEN_MAXIMUM = 200

#: Tickets and reservations of others, as somebody sees them who looks over their shoulders.
seen_tickets: list[str] = []
seen_reservations: list[str] = []


class HonestShopper(Shopper):
    """Leaves ticket and reservation where others can see them."""

    def click(self, ticket: str, units: int = 1) -> tuple[Answer | None, str]:
        answer, word = super().click(ticket, units)
        if answer and word == "RESERVED" and len(seen_tickets) < SEEN_MAXIMUM:
            seen_tickets.append(ticket)
            seen_reservations.append(answer.json()["reservation"])
        return answer, word


class Cheat(Shopper):
    """A person who tries what must not work."""

    def try_in_vain(self, fields: dict[str, Any], where: str = "buy") -> str:
        """One try; answers the word."""
        answer = self.post(CHEAT, self.page + where, fields, ticket=str(fields.get("ticket", ""))[-TICKET_TAIL:])
        return said(answer)[0] if answer else ""

    def click_with(self, ticket: str, units: int = 1) -> str:
        return self.try_in_vain({"offer": self.plan.offer, "units": units, "ticket": ticket})

    def live(self, at: float, clicks_after: float) -> None:
        """Faster than everybody else: nobody cheats to come later."""
        self.look(at)
        self.cheat()
        self.wire.close()

    def cheat(self) -> None:
        raise NotImplementedError

    def _another_tab(self) -> Self:
        """The same person with a connection of its own: one connection has one request at a time."""
        return type(self)(self.part, self.place, self.number, self.cookie)

    def wait_until(self, moment_ms: float) -> None:
        gevent.sleep(max(0.0, moment_ms / 1000 - self.book.now()))


class Early(Cheat):
    """Wants a ticket before there are any."""

    role = "early tickets"

    def cheat(self) -> None:
        self.wait_until(self.plan.opens_at_ms - EARLY_BEFORE_SECONDS * 1000)
        # The last try must have been answered before the opening: one that is under way then may be served rightly.
        while (self.book.now() + 2 * EARLY_SECONDS) * 1000 < self.plan.opens_at_ms:
            self.try_in_vain({"offer": self.plan.offer}, "ticket")
            gevent.sleep(EARLY_SECONDS)


class Forger(Cheat):
    """Makes tickets, and looks at reservations of others."""

    role = "forged ids"

    def cheat(self) -> None:
        self.wait_for_the_opening()
        for _ in range(TRIES):
            self.click_with(secrets.token_urlsafe(80))
            self.get(CHEAT, f"/reservations/{self.plan.offer}-{secrets.token_urlsafe(16)}")
            self._look_at_another()
            gevent.sleep(WAIT_SECONDS)

    def _look_at_another(self) -> None:
        if seen_tickets:
            ticket = self.random.choice(seen_tickets)
            middle = len(ticket) // 2
            self.click_with(ticket[:middle] + ("A" if ticket[middle] != "A" else "B") + ticket[middle + 1 :])
            self.get(CHEAT, f"/reservations/{self.random.choice(seen_reservations)}")


class Thief(Cheat):
    """Buys with tickets of others."""

    role = "shared tickets"

    def cheat(self) -> None:
        self.wait_for_the_opening()
        tries = 0
        while tries < TRIES and not self.is_over:
            if seen_tickets:
                tries += 1
                self.click_with(self.random.choice(seen_tickets))
            gevent.sleep(WAIT_SECONDS)


class Replayer(Cheat):
    """Buys once, honestly, and then again and again with the same ticket, at once and with more units."""

    role = "replay"

    def cheat(self) -> None:
        self.wait_for_the_opening()
        ticket, _ = self.ask_for_ticket()
        if ticket is None:
            return
        answer, word = self.click(ticket)
        if word != "RESERVED" or answer is None:
            return
        gevent.joinall([gevent.spawn(self._another_tab().click_with, ticket) for _ in range(TRIES)])
        self.click_with(ticket, units=2)
        self.follow(answer.json())


class Greedy(Cheat):
    """Wants more than the limit: another ticket, another click, before and after paying."""

    role = "over the limit"

    def cheat(self) -> None:
        self.wait_for_the_opening()
        tickets = [ticket for ticket, _ in (self.ask_for_ticket() for _ in range(self.plan.limit + 2)) if ticket]
        for ticket in tickets:
            answer, word = self.click(ticket)  # as many of them as the limit allows are hers, and no more
            if word == "RESERVED" and answer:
                gevent.spawn(self._another_tab().follow, answer.json())


CHEATS: tuple[type[Cheat], ...] = (Early, Forger, Thief, Replayer, Greedy)


class Crowd:
    """Who a number is: most are honest, the last few are not, each in another way."""

    kinds: ClassVar[tuple[type[Cheat], ...]] = CHEATS

    def __init__(self, part: Part) -> None:
        self._part = part
        self._place = Place.of(part.plan.host)

    def person(self, number: int, cookie: str) -> Shopper:
        honest = number < self._part.plan.users
        kind = HonestShopper if honest else self.kinds[(number - self._part.plan.users) % len(self.kinds)]
        return kind(self._part, self._place, number, cookie)
