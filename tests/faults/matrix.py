"""One cell of the matrix: a sale with shoppers, a dependency that breaks and heals, and every page all the while."""

import json
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import redis
from django.contrib.auth.models import User
from django.test import Client

from inventory import effects, outbox, reservations, verification
from inventory.outcomes import Wish
from shop import criticality, door, orders, receipts, tickets
from shop import verification as money
from shop.buyers import Buyer
from shop.criticality import Importance
from shop.models import Offer, Order, Sale
from shop.receipts import Receipt
from tests.crowd import eventually
from tests.faults.expectations import FAULTS, WORKS, Look, looks
from tests.faults.pages import BROWSER, PAGES, PASSWORD, Page, Visitor
from tests.faults.proxied_shop import ProxiedShop
from tests.faults.visits import Answer, StallMeter, visit

#: Seconds after which a buyer hears something without stock Redis.
HEARD_SECONDS = 0.3
#: Seconds beyond, for everything that no deadline watches: the way of a request and its answer, a page's rendering.
SPARE_SECONDS = 0.1
#: Seconds of the machine's stalls that excuse a late answer, at most: what hangs is later than that.
EXCUSED_SECONDS = 0.75
#: Pages that are asked at the same time: enough to be quick, few enough to wait for the servers and not for each other.
AT_ONCE = 6
#: Visits of a page in one cell: as it breaks, when the shop has found out, and healed.
ROUNDS = 3
#: Pages of whose parts the caches hold the last ones known, before anything breaks.
WARMED = ("front page", "sale", "state", "no such sale")

Complaints = list[str]


class Scene:
    """The sale's people, and what they hear: `play` answers everything that is wrong."""

    def __init__(
        self, shop: ProxiedShop, meter: StallMeter, stock_redis: redis.Redis, offer: Offer, unread: list[Sale]
    ) -> None:
        self.shop, self.meter, self.stock_redis, self.offer, self.unread = shop, meter, stock_redis, offer, unread
        self.rounds = [dict(zip(PAGES, part, strict=True)) for part in self._visitors()]

    # The people

    def _visitors(self) -> Iterator[list[Visitor]]:
        """For each round a shopper for each page: with an order, a hold that is not written down, and a ticket."""
        size = len(PAGES)
        buyers = [Buyer(user.pk, secrets.token_bytes(8), 0) for user in self._users(size * ROUNDS)]
        placed, _ = self._reserve(buyers)
        outbox.drain(self.offer.pk, orders.place)
        held, proofs = self._reserve(buyers)
        numbers = dict(Order.objects.filter(offer=self.offer).values_list("reservation_id", "number"))
        people = [
            self._visitor(page, buyer, numbers[first], first, second, proof)
            for page, buyer, first, second, proof in zip(PAGES * ROUNDS, buyers, placed, held, proofs, strict=True)
        ]
        for at, person in enumerate(people):
            person.words["unread"] = self.unread[at // size].slug
        for start in range(0, len(people), size):
            yield people[start : start + size]

    def _users(self, size: int) -> list[User]:
        """They all have the same password, which is hashed once."""
        password = User(username="")
        password.set_password(PASSWORD)
        names = (f"visitor-{secrets.token_hex(8)}" for _ in range(size))
        return User.objects.bulk_create(User(username=name, password=password.password) for name in names)

    def _staff_session(self) -> str:
        client = Client()
        client.force_login(User.objects.create_superuser(f"staff-{secrets.token_hex(8)}"))
        return client.cookies["sessionid"].value

    def _reserve(self, buyers: list[Buyer]) -> tuple[list[str], list[str]]:
        """Holds of one unit each: their ids and receipts."""
        wishes = [Wish(tickets.issue(self.offer.pk, buyer)[1].reservation_id, buyer.id) for buyer in buyers]
        answers = reservations.reserve(self.offer.pk, wishes)
        assert all(answer.outcome.yours for answer in answers), answers
        proofs = [
            receipts.write(Receipt(wish.reservation_id, wish.buyer_id, wish.units, answer.epoch, answer.at_ms))
            for wish, answer in zip(wishes, answers, strict=True)
        ]
        return [wish.reservation_id for wish in wishes], proofs

    def _visitor(self, page: Page, buyer: Buyer, order: str, placed: str, held: str, receipt: str) -> Visitor:
        sealed, ticket = tickets.issue(self.offer.pk, buyer)
        product = self.offer.product
        return Visitor(
            buyer,
            self._staff_session() if page.staff else "",
            receipt,
            {
                "slug": self.offer.sale.slug,
                "offer": str(self.offer.pk),
                "title": product.title,
                "order": order,
                "placed": placed,
                "held": held,
                "ticket": sealed,
                "clicked": ticket.reservation_id,
                "token": secrets.token_hex(16),
                "username": User.objects.get(pk=buyer.id).username,
                "currency": product.currency,
                "amount_minor": str(self.offer.price_minor),
            },
        )

    # What happens

    def play(self, dependency: str, fault: str) -> Complaints:
        if cold := self._warmed():
            return cold
        self.shop.strike(dependency, FAULTS[fault])
        struck = [*self._round(0, dependency, fault, settled=False)]
        self._wait_until_found_out(dependency, fault)
        struck += self._round(1, dependency, fault, settled=True)
        self.shop.heal()
        return struck + self._healed()

    def _warmed(self) -> Complaints:
        """The caches hold what everybody reads."""
        return [what for page in PAGES if page.name in WARMED for what in self._comes_to_work(page)]

    def _comes_to_work(self, page: Page) -> Complaints:
        last: list[Answer] = []
        try:
            eventually(lambda: last.append(self._ask(page, 2)) or page.works(last[-1], self.rounds[2][page]))
        except AssertionError:
            return [f"{page.name} does not work: {last[-1]}"]
        return []

    def _wait_until_found_out(self, dependency: str, fault: str) -> None:
        """Until the pages that believe for a while in what they knew say what they find now."""
        for page in PAGES:
            first, then = (looks(page, dependency, fault, settled=settled) for settled in (False, True))
            if page.method == "GET" and WORKS in first and WORKS not in then:
                eventually(lambda page=page, then=then: self._fits(page, then, 1, self._ask(page, 1)))

    def _fits(self, page: Page, allowed: Iterable[Look], number: int, answer: Answer) -> bool:
        return any(look.fits(page, answer, self.rounds[number][page]) for look in allowed)

    def _ask(self, page: Page, number: int) -> Answer:
        return visit(self.shop.port, page.request(self.rounds[number][page]), self.meter)

    def _round(self, number: int, dependency: str, fault: str, *, settled: bool) -> Complaints:
        """All pages, some at a time."""

        def complaints(page: Page) -> Complaints:
            answer = self._ask(page, number)
            allowed = looks(page, dependency, fault, settled=settled)
            found = [] if self._fits(page, allowed, number, answer) else [f"none of {list(allowed)}"]
            found += [*_out_of_frame(page, answer), *_late(page, answer, _seconds(page, dependency))]
            found += self._moved(page, answer, self.rounds[number][page])
            return [f"round {number + 1}, {page.name}: {what}: {answer}" for what in found]

        return self._of_all(complaints)

    def _of_all(self, look_at: Callable[[Page], Complaints]) -> Complaints:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [complaint for found in pool.map(look_at, PAGES) for complaint in found]

    def _moved(self, page: Page, answer: Answer, visitor: Visitor) -> Complaints:
        """Nothing was sent, says PAUSED or BUSY to a click: then Redis has no such reservation."""
        if page.route != "buy" or not any(word in answer.text for word in ("PAUSED", "BUSY")):
            return []
        known = self.stock_redis.hexists(f"{{o:{self.offer.pk}}}:reservations", visitor.words["clicked"])
        return ["nothing was sent, and yet there is a reservation"] if known else []

    # What is left

    def _healed(self) -> Complaints:
        """Everything works by itself; each click that was made meanwhile is one reservation; the books are right."""
        return self._of_all(self._comes_to_work) + self._clicked_again() + self._books()

    def _clicked_again(self) -> Complaints:
        buys = [page for page in PAGES if page.route == "buy" and page.accept != BROWSER]
        answers = [self._ask(page, number) for page in buys for number in range(ROUNDS)]
        return [f"the same click again: {answer}" for answer in answers if answer.status not in (200, 202)]

    def _books(self) -> Complaints:
        while outbox.drain(self.offer.pk, orders.place):
            pass
        effects.apply_pending()
        found = [*verification.findings(self.offer.pk), *money.findings(self.offer.pk)]
        return [f"promise {finding.promise}: {finding.seen}" for finding in found]


def _seconds(page: Page, dependency: str) -> float:
    """That the page may take: as long as the door gives it, and a click no longer than its buyer waits."""
    if page.route == "buy" and dependency == "stock Redis":
        return HEARD_SECONDS + SPARE_SECONDS
    if criticality.of(page.method, page.path) is Importance.STAFF:
        return door.STAFF_SECONDS + SPARE_SECONDS
    return (door.SLOW_SECONDS if criticality.is_slow(page.method, page.path) else door.REQUEST_SECONDS) + SPARE_SECONDS


def _late(page: Page, answer: Answer, seconds: float) -> Complaints:
    """Without the time that the machine stood still. To ask once more would prove nothing: by then a breaker is open.

    What this excuses is told as a warning.
    """
    if answer.seconds <= seconds:
        return []
    if answer.seconds - min(answer.stalled, EXCUSED_SECONDS) > seconds:
        return [f"later than {seconds} s"]
    warnings.warn(f"{page.name} was in time ({seconds} s) but for the stalls of this machine: {answer}", stacklevel=1)
    return []


def _out_of_frame(page: Page, answer: Answer) -> Complaints:
    """What no answer may lack, and none may show."""
    wrong = [f"no {name}" for name in ("X-Request-Id", "X-Server-Now-Ms") if name not in answer.headers]
    if answer.status == 500 or "Traceback" in answer.text:
        wrong.append("broken")
    redirects = 300 <= answer.status < 400
    if page.for_people and not redirects and not (answer.is_page and _is_for_people(answer.text)):
        wrong.append("no page for people")
    if not page.for_people and answer.status >= 400 and page.route not in ("readyz", "metrics"):
        wrong += [] if _is_word(answer.text) else ["no word for programs"]
    return wrong


def _is_for_people(html: str) -> bool:
    return '<html lang="en' in html and "<title>" in html


def _is_word(text: str) -> bool:
    try:
        return {"outcome", "detail"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False
