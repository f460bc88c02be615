"""What degrades (ARCHITECTURE, section 8) as data: the pages that answer otherwise without a dependency.

A page that is not named here goes on as if nothing had happened. Of one that is, `at_first` says what else may be
answered while the shop still believes in what it knew a moment ago, or finds out; `then` what it has to answer once it
has found out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from shop import criticality
from shop.criticality import Importance
from tests.faults.faults import Fault, Latency, NeverRead, Refuse, Reset, Trickle
from tests.faults.pages import Page, Visitor
from tests.faults.visits import Answer

#: What breaks, by the name of how.
FAULTS: dict[str, Fault] = {
    "dead": Refuse(dropping=True),
    "hung": NeverRead(),
    "slow": Latency(up_ms=200, down_ms=200),
    "resetting": Reset(after_bytes=2),
    "trickling": Trickle(piece_bytes=1, interval_ms=1_000),
}


@dataclass(frozen=True)
class Look:
    """One way in which a page may answer."""

    name: str
    fits: Callable[[Page, Answer, Visitor], bool]

    def __repr__(self) -> str:
        return self.name


def _word(word: str) -> Look:
    """Refused with 503: in JSON for a script, on a page for a person."""

    def fits(page: Page, answer: Answer, _: Visitor) -> bool:
        shown = f'data-outcome="{word}"' if page.for_people else f'"outcome": "{word}"'
        return (
            answer.status == HTTPStatus.SERVICE_UNAVAILABLE and shown in answer.text and "Retry-After" in answer.headers
        )

    return Look(word, fits)


def _says(text: str, status: int = 200) -> Look:
    return Look(text, lambda _, answer, __: answer.status == status and text in answer.text)


WORKS = Look("works", lambda page, answer, visitor: page.works(answer, visitor))
BACK_SOON, PAUSED, UNKNOWN = _word("BUSY"), _word("PAUSED"), _word("UNKNOWN")
BUSY = BACK_SOON  # people are told another title; programs hear that nothing was done and asking again is right


@dataclass(frozen=True)
class Otherwise:
    """The looks of one page (or of its two forms) while something is broken."""

    then: tuple[Look, ...]
    at_first: tuple[Look, ...] = (WORKS,)

    @property
    def all(self) -> tuple[Look, ...]:
        return (*self.then, *self.at_first)


#: Page, without who asks -> how it answers otherwise.
Degraded = dict[str, Otherwise]

#: Until its sale reads as paused, a ticket is given: the counters that pages know may be a second and a half old.
STOCK_REDIS: Degraded = {
    "buy": Otherwise((PAUSED, BUSY, UNKNOWN), at_first=()),
    "ticket": Otherwise((PAUSED,)),
    "state": Otherwise((_says('"phase": "paused"'),)),
    "mine": Otherwise((PAUSED,), at_first=()),
    "ready": Otherwise((_says('"ready": false', 503),)),
}

#: What only the record knows, and a sale that nobody has looked at before. Other sales, clicks, and polls of what Redis
#: knows go on.
POSTGRESQL: Degraded = {
    page: Otherwise((BACK_SOON,), at_first=())
    for page in (
        "orders",
        "order",
        "pay",
        "cancel",
        "payment callback",
        "sign-in",
        "sign-up",
        "staff's sign-out",
        "admin",
        "consoles",  # open ones stay open by their pass, which these visitors have none of
        "console",
        "figures",
        "act",
        "act of an offer",
        "unread sale",
    )
}

PROVIDER: Degraded = {"pay": Otherwise((BACK_SOON,), at_first=())}

DEGRADED: dict[str, Degraded] = {
    "stock Redis": STOCK_REDIS,
    "cache Redis": {},
    "memcached": {},
    "PostgreSQL": POSTGRESQL,
    "broker": {},
    "payment provider": PROVIDER,
}

#: A server that answers after 0.4 s: who has patience for that may still be served.
_SOME_PATIENCE = {("PostgreSQL", "slow"), ("payment provider", "slow")}


#: Stores whose waits fill the places of the door's rooms until their breaker opens: meanwhile anybody may hear BUSY.
_FILLS_THE_ROOMS = {
    (store, fault) for store in ("stock Redis", "PostgreSQL") for fault in ("hung", "slow", "trickling")
}


def looks(page: Page, dependency: str, fault: str, *, settled: bool) -> tuple[Look, ...]:
    """How the page may answer."""
    cell = (dependency, fault)
    crowded = cell in _FILLS_THE_ROOMS and not (settled and cell not in _SOME_PATIENCE)
    room = (BUSY,) if crowded and criticality.of(page.method, page.path) is not Importance.EXEMPT else ()
    otherwise = DEGRADED[dependency].get(page.name.partition(",")[0])
    if otherwise is None:
        return (WORKS, *room)
    if cell in _SOME_PATIENCE:
        return (*otherwise.all, WORKS, *room)
    return otherwise.then if settled else (*otherwise.all, *room)
