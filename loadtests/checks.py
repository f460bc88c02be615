"""The promises of ARCHITECTURE section 2, each as what would have to be seen if it were broken.

A check reads evidence and answers sentences: what is wrong, one each, none when the promise was kept. What clients were
told is held against both stores, and the stores against each other, so that a mistake in one of the three is seen.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeVar

from loadtests.evidence import Books, Evidence, Row, Sample
from loadtests.records import CHEAT, Record

#: The promises by number, in short: section 2 of the design, and the README's words.
PROMISES = {
    1: "never oversold",
    2: "one buyer, one limit",
    3: "one click, one answer",
    4: '"order placed" means committed',
    5: "a paid order is never lost",
    6: "units come back",
    7: "buyers first",
    8: "no single death stops the truth",
}
#: Milliseconds for which units may be free while somebody is told that there are none.
FREE_UNSEEN_MS = 1_000
#: Milliseconds between the clocks of this machine, after they were set right, and of Redis: half a round trip.
CLOCK_MS = 50
#: Milliseconds between two changes of the service's level, less two looks at it.
LEVEL_CHANGES_MS = 10_000 - 1_000
#: PostgreSQL's words for a reservation whose units are somebody's.
LIVE = ("held", "confirmed")
#: PostgreSQL's word -> the words that Redis may have for it.
SAME = {
    "held": {"held", "placed"},
    "confirmed": {"paid"},
    "released": {"released"},
    "expired": {"expired"},
    "refused": {"refused"},
}

Found = Iterator[str]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Check:
    name: str
    promise: int
    look: Callable[[Evidence], Found]
    #: Asks for the stores' books: without access to them it is not judged.
    needs_books: bool = True


def _reserved(evidence: Evidence) -> list[Record]:
    """Every answer that gave units to somebody."""
    return [each for each in evidence.records if each.word == "RESERVED" and each.about]


def _books(evidence: Evidence) -> Books:
    assert evidence.books is not None
    return evidence.books


# --- 1


def sold_within_quantity(evidence: Evidence) -> Found:
    books = _books(evidence)
    rows = Counter[str]()
    for row in books.reservations.values():
        rows[row.state] += row.units
    if rows["held"] + rows["confirmed"] > books.quantity:
        yield f"{rows['held']} held and {rows['confirmed']} sold of {books.quantity} units"
    if (rows["held"], rows["confirmed"]) != (books.held, books.sold):
        yield f"PostgreSQL counts {books.held} held, {books.sold} sold; its rows say {dict(rows)}"


def counters_add_up(evidence: Evidence) -> Found:
    for sample in evidence.samples or ():
        total = sample.available + sample.held + sample.sold
        if total != sample.quantity or min(sample.available, sample.held, sample.sold) < 0:
            seen = f"{sample.available} available + {sample.held} held + {sample.sold} sold of {sample.quantity}"
            yield f"at {_from_opening(evidence, sample.at_ms)} Redis had {seen}"
            return


def told_within_quantity(evidence: Evidence) -> Found:
    """More units at a time were somebody's than there are: by what people were told, whatever the counters say."""
    most, at_ms = _most_at_once(evidence, _reserved(evidence))
    if most > evidence.plan.quantity:
        yield f"{most} units were somebody's at {_from_opening(evidence, at_ms)}, of {evidence.plan.quantity}"


def _most_at_once(evidence: Evidence, told: list[Record]) -> tuple[int, float]:
    """Of the units that these answers gave, the most that were held or owned at a time; and when."""
    changes: list[tuple[float, int]] = []
    for name, record in {each.about: each for each in told}.items():
        row = _books(evidence).reservations.get(name)
        units = row.units if row else 1
        changes.append((row.reserved_at_ms if row else record.done * 1000, units))
        if row and row.ended_at_ms and row.state not in LIVE:
            changes.append((row.ended_at_ms, -units))
    have, most, when = 0, 0, 0.0
    for at_ms, change in sorted(changes):
        have += change
        if have > most:
            most, when = have, at_ms
    return most, when


# --- 2


def nobody_over_the_limit(evidence: Evidence) -> Found:
    has = Counter[int]()
    for row in _books(evidence).reservations.values():
        has[row.buyer] += row.units if row.state in LIVE else 0
    for buyer, units in has.items():
        limit = max(evidence.plan.limit, _books(evidence).buyers.get(buyer, (0, 0))[1])
        if units > limit:
            yield f"buyer {buyer} has {units} units, the limit is {limit}"


def nobody_told_over_the_limit(evidence: Evidence) -> Found:
    """Also for a moment: what Redis gave and PostgreSQL took back was one too many."""
    for who, records in _of_each(_reserved(evidence), lambda record: record.who).items():
        most, at_ms = _most_at_once(evidence, records)
        if most > evidence.plan.limit:
            when = _from_opening(evidence, at_ms)
            yield f"shopper {who} had {most} units at {when}, the limit is {evidence.plan.limit}"


# --- 3


def one_ticket_one_reservation(evidence: Evidence) -> Found:
    clicks = [each for each in evidence.records if each.ticket and each.word in ("RESERVED", "REPEATED")]
    for ticket, records in _of_each(clicks, lambda record: record.ticket).items():
        names = {each.about for each in records}
        if len(names) > 1:
            yield f"the ticket ...{ticket[-6:]} was answered with {len(names)} reservations"
        elif sum(each.word == "RESERVED" for each in records) > 1:
            yield f"the ticket ...{ticket[-6:]} was told RESERVED more than once, not REPEATED"


# --- 4


def every_hold_is_recorded_or_told(evidence: Evidence) -> Found:
    """RESERVED was answered: then there is a row, or whoever asked has heard that there is none."""
    rows = _books(evidence).reservations
    refused = {each.about for each in evidence.records if each.kind == "poll" and each.word == "refused"}
    for record in _reserved(evidence):
        if record.about not in rows and record.about not in refused:
            yield f"shopper {record.who} was told RESERVED, and PostgreSQL does not know {record.about}"


def placed_is_committed(evidence: Evidence) -> Found:
    rows = _books(evidence).reservations
    for record in evidence.records:
        if record.kind == "poll" and record.word in ("placed", "paid") and record.about not in rows:
            yield f"shopper {record.who} was told {record.word}, and PostgreSQL does not know {record.about}"


# --- 5


def paid_stays_paid(evidence: Evidence) -> Found:
    rows = _books(evidence).reservations
    for record in evidence.records:
        if record.kind == "poll" and record.word == "paid":
            row = rows.get(record.about)
            if row and row.state != "confirmed" and row.order not in ("refund_due", "refunded", "paid"):
                yield f"shopper {record.who} was told paid, and the order is {row.order}"


# --- 6


def units_came_back_once(evidence: Evidence) -> Found:
    """What ended is on sale again, once: the counters at rest are the sums of the rows."""
    books = _books(evidence)
    live = sum(row.units for row in books.reservations.values() if row.state in LIVE)
    available = books.redis.get("available", 0)
    if available != books.quantity - live:
        yield f"{available} units are on sale, and {books.quantity - live} are nobody's"
    late = [name for name, row in books.reservations.items() if _is_overdue(row, books.now_ms)]
    if late:
        yield f"{len(late)} holds ran out and were not ended, such as {late[0]}"


def _is_overdue(row: Row, now_ms: float) -> bool:
    return row.state == "held" and row.expires_at_ms + 10_000 < now_ms


# --- 7


def buyers_are_served_first(evidence: Evidence) -> Found:
    """Where some are refused, a smaller part of the buyers than of those who only look."""
    honest = [each for each in evidence.records if each.role in ("shopper", "arrival")]
    buyers = [each for each in honest if each.kind in ("ticket", "buy")]
    lookers = [each for each in honest if each.kind in ("page", "list")]
    if not buyers or not lookers:
        return
    refused = [sum(each.is_refusal for each in some) / len(some) for some in (buyers, lookers)]
    if refused[0] > refused[1] + 0.05:
        yield f"{100 * refused[0]:.0f} % of the buyers were refused, and {100 * refused[1]:.0f} % of those who look"


def the_level_does_not_flap(evidence: Evidence) -> Found:
    """A level that comes and goes with each tower of a load is felt as a shop that is broken every other second."""
    changes = evidence.levels[1:]  # the first is only what it was
    for (before_ms, before), (at_ms, level) in pairwise(changes):
        if at_ms - before_ms < LEVEL_CHANGES_MS:
            seconds = (at_ms - before_ms) / 1000
            yield f"the level was {before} at {_from_opening(evidence, before_ms)}, and {level} {seconds:.1f} s later"


# --- 8


def both_stores_tell_the_same(evidence: Evidence) -> Found:
    books = _books(evidence)
    rows, there = books.reservations, books.redis_reservations
    for name in rows.keys() - there.keys():
        if rows[name].state != "refused":
            yield f"{name} is in PostgreSQL and not in Redis"
    for name in there.keys() - rows.keys():
        yield f"{name} is in Redis and not in PostgreSQL"
    for name in rows.keys() & there.keys():
        state, *its = there[name]
        if state not in SAME[rows[name].state] or tuple(its) != (rows[name].buyer, rows[name].units):
            yield f"{name} is {rows[name].state} in PostgreSQL and {state} in Redis"


def verify_finds_nothing(evidence: Evidence) -> Found:
    for finding in _books(evidence).findings:
        yield f"manage.py verify, promise {finding['promise']}: {finding['seen']}"


# --- the opening, and the truth about what is left


def nobody_before_the_opening(evidence: Evidence) -> Found:
    opens_at_ms = evidence.plan.opens_at_ms
    for record in evidence.records:
        if record.word in ("TICKET", "RESERVED") and record.done * 1000 < opens_at_ms - CLOCK_MS:
            yield f"{record.role} {record.who} got {record.word} {_before(opens_at_ms, record.done * 1000)}"
    for name, row in (evidence.books.reservations if evidence.books else {}).items():
        if row.reserved_at_ms < opens_at_ms:
            yield f"{name} was held {_before(opens_at_ms, row.reserved_at_ms)}"


def sold_out_only_when_sold_out(evidence: Evidence) -> Found:
    """Nobody hears SOLD_OUT who clicked when units had been free for a second, and still were at the answer."""
    free = list(_free([each for each in evidence.samples or [] if each.at_ms >= evidence.plan.opens_at_ms]))
    for record in evidence.records:
        if record.word != "SOLD_OUT" or record.kind not in ("ticket", "buy"):
            continue
        for begin_ms, end_ms in free:
            if begin_ms + FREE_UNSEEN_MS < record.sent * 1000 and record.done * 1000 < end_ms - CLOCK_MS:
                seconds = (record.sent * 1000 - begin_ms) / 1000
                yield f"{record.role} {record.who} heard SOLD_OUT, and units had been free for {seconds:.1f} s"
                break


def _free(samples: list[Sample]) -> Iterator[tuple[float, float]]:
    """The spans of time in which units were free, from the first to the last look that saw some."""
    for are_free, span in groupby(samples, lambda sample: sample.available > 0):
        if are_free:
            seen = [sample.at_ms for sample in span]
            yield seen[0], seen[-1]


def cheats_get_nothing(evidence: Evidence) -> Found:
    for record in evidence.records:
        if record.kind == CHEAT and _is_success(record):
            yield f"{record.role}: {record.who} got {record.word or record.status}"


def _is_success(record: Record) -> bool:
    """Something was given. The same reservation again, to whom it belongs, is no gain."""
    return 200 <= record.status < 300 and not (record.role == "replay" and record.word == "REPEATED")


def no_errors_of_ours(evidence: Evidence) -> Found:
    broken = Counter((each.kind, each.status) for each in evidence.records if each.status == 500)
    for (kind, status), count in broken.items():
        yield f"{count} times {kind} was answered {status}"


def _of_each(records: list[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        found[key(record)].append(record)
    return found


def _from_opening(evidence: Evidence, at_ms: float) -> str:
    return f"T0 {(at_ms - evidence.plan.opens_at_ms) / 1000:+.2f} s"


def _before(opens_at_ms: float, at_ms: float) -> str:
    return f"{opens_at_ms - at_ms:.0f} ms before the opening"


CHECKS = (
    Check("sold <= quantity, in PostgreSQL", 1, sold_within_quantity),
    Check("quantity = available + held + sold, in every look at Redis", 1, counters_add_up),
    Check("no more people told RESERVED than units", 1, told_within_quantity),
    Check("no buyer over the limit, in PostgreSQL", 2, nobody_over_the_limit),
    Check("no shopper told more than the limit", 2, nobody_told_over_the_limit),
    Check("one ticket, one reservation, RESERVED once", 3, one_ticket_one_reservation, needs_books=False),
    Check("every RESERVED is recorded or told", 4, every_hold_is_recorded_or_told),
    Check("placed means committed", 4, placed_is_committed),
    Check("paid stays paid, or is refunded", 5, paid_stays_paid),
    Check("units came back, each once", 6, units_came_back_once),
    Check("of buyers, no more are refused than of lookers", 7, buyers_are_served_first, needs_books=False),
    Check("no more than one change of the level in ten seconds", 7, the_level_does_not_flap),
    Check("Redis = PostgreSQL after the drain", 8, both_stores_tell_the_same),
    Check("manage.py verify finds nothing", 8, verify_finds_nothing),
    Check("nobody was served before T0", 3, nobody_before_the_opening, needs_books=False),
    Check("no SOLD_OUT while units were free for a second", 6, sold_out_only_when_sold_out),
    Check("cheats got nothing", 3, cheats_get_nothing, needs_books=False),
    Check("no request met an error of ours (500)", 8, no_errors_of_ours, needs_books=False),
)
