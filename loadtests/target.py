"""Looking at a shop before a load is sent to it: whatever would make a result that looks like one is refused here."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.wire import Answer, Lost, Place, Wire, request
from shop.local.refusal import Refusal

#: Seconds a shop may take for the first answer.
FIRST_ANSWER_SECONDS = 5.0
#: Looks at the clock; the quickest answer counts, because it says most exactly when it was given.
CLOCK_LOOKS = 5
#: Looks at a shop that is busy, and seconds between them.
BUSY_LOOKS, BUSY_SECONDS = 20, 0.5
#: Milliseconds that the clocks may differ: more would move T0, and with it who was served too early.
CLOCKS_DIFFER_MS = 1_000
#: Tickets asked for at once by one buyer: twice of what a shop with the usual limits lets one have.
KNOCKS = 45
#: Open files of a client besides its connections.
FILES_BESIDE = 200


@dataclass(frozen=True)
class Sale:
    """What the shop says of the sale."""

    offer: int
    quantity: int
    opens_at_ms: int
    closes_at_ms: int
    phase: str
    #: The shop's clock, against ours.
    ahead_ms: float


def connected(url: str) -> Wire:
    """A connection to somebody who answers. Raises Refusal: nobody there, nobody who answers, no HTTP."""
    try:
        wire = Wire(Place.of(url), FIRST_ANSWER_SECONDS)
        wire.connect()
    except (OSError, ValueError, Lost) as error:
        raise Refusal(f"HOST {url} cannot be reached: {error}") from error
    return wire


def look_at(url: str, slug: str) -> Sale:
    """The sale, open or yet to open. Raises Refusal with one line for everything that is not as it must be."""
    wire, place = connected(url), Place.of(url)
    state = request("GET", f"/sales/{slug}/state", place, Accept="application/json")
    told, ahead_ms = _state(url, slug, wire, state)
    if told["phase"] in ("closed", "sold_out"):
        raise Refusal(f"the sale {slug} is over: the shop says {told['phase']}")
    if len(told["offers"]) != 1:
        raise Refusal(f"the sale {slug} has {len(told['offers'])} offers; a load is for one")
    if abs(ahead_ms) > CLOCKS_DIFFER_MS:
        raise Refusal(f"the clocks differ: the shop's is {ahead_ms / 1000:+.1f} s from ours; set them right first")
    [offer] = told["offers"]
    return Sale(
        offer["id"], offer["quantity"], told["opens_at_ms"], told["closes_at_ms"], told["phase"], round(ahead_ms, 1)
    )


def _state(url: str, slug: str, wire: Wire, state: bytes) -> tuple[dict[str, Any], float]:
    """What is told, and how far the shop's clock is ahead, by the quickest answer."""
    looks = []
    _answered(url, wire, state)
    for _ in range(CLOCK_LOOKS):
        before = time.time() * 1000
        answer = _answered(url, wire, state)
        after = time.time() * 1000
        told = answer.json()
        if answer.status == 404 and told.get("outcome") == "NOT_FOUND":
            raise Refusal(f"{url} has no sale {slug}")
        if answer.status != 200 or "phase" not in told or not (said := answer.header(b"x-server-now-ms")):
            raise Refusal(f"HOST {url} is not this shop: it answers {answer.status} and no state of a sale")
        looks.append((after - before, float(said) - (before + after) / 2, told))
    _, ahead_ms, told = min(looks, key=lambda look: look[0])
    return told, ahead_ms


def _answered(url: str, wire: Wire, sent: bytes) -> Answer:
    """The first answer that is more than `too busy`, of which a shop may have a few when it has just been started."""
    try:
        for _ in range(BUSY_LOOKS):
            answer = wire.ask(sent)
            if answer.status != 503:
                break
            time.sleep(BUSY_SECONDS)
        return answer
    except Lost as lost:
        raise Refusal(f"HOST {url} takes connections and answers nothing: {lost}") from lost
    except ValueError as error:
        raise Refusal(f"HOST {url} does not speak HTTP") from error


def check_rate_limits(url: str, slug: str, offer: int, cookies: Sequence[str]) -> None:
    """Raises Refusal when this client is counted: it would then measure the limits and not the shop."""
    wire, place = connected(url), Place.of(url)
    body = b'{"offer": %d}' % offer
    kind = {"Content_Type": "application/json", "Accept": "application/json"}
    sent = request("POST", f"/sales/{slug}/ticket", place, cookies[0], body, **kind)
    for _ in range(KNOCKS):
        answer = _answered(url, wire, sent)
        if answer.status == 401:
            raise Refusal(
                "the shop does not know these shoppers: SHOPPERS is a file that its `manage.py shoppers` wrote"
            )
        if answer.status == 429:
            raise Refusal("the shop's rate limits count this client: start it with RATE_LIMIT_EXEMPT=<our address>")


def check_open_files(people: int, processes: int) -> None:
    """Raises Refusal when a process may not have as many connections as it has people."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = -(-people // processes) + FILES_BESIDE
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Refusal(
            f"{people} people need {needed} open files in each of {processes} processes, and {hard} are allowed: "
            "fewer USERS, more PROCESSES, or a higher `ulimit -n`"
        )


def wait(condition: Callable[[], bool], seconds: float, pause_seconds: float = 0.2) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_seconds)
    return True
