"""A small sale as a load records it, honest to the last unit: what tests plant mistakes in.

Three units, a limit of one, five shoppers. Ann and Bob buy and pay; Cid lets his time run out, and Dan buys what came
back; Eve hears SOLD_OUT. One cheat tries Ann's ticket.
"""

from loadtests.evidence import Books, Evidence, Row, Sample
from loadtests.plan import Plan
from loadtests.records import CHEAT, METRONOME, Record

#: T0, in seconds since the epoch.
T0 = 1_800_000_000.0
OPENS_AT_MS = int(T0 * 1000)
HOLD_SECONDS = 5.0
#: Seconds a request takes.
QUICK = 0.01

ANN, BOB, CID, DAN, EVE = range(5)
#: Whose reservation it is -> its id, and when it was clicked, from T0.
CLICKS = {ANN: ("1-ann", 0.1), BOB: ("1-bob", 0.2), CID: ("1-cid", 0.3), DAN: ("1-dan", 6.0)}


def record(kind: str, who: int, at: float, status: int, word: str = "", **more: str) -> Record:
    """`at` from T0."""
    role = more.pop("role", "shopper")
    return Record(kind, role, who, T0 + at, T0 + at, T0 + at + QUICK, status, word, **more)


def row(who: int, state: str, order: str, reserved: float, ended: float | None) -> Row:
    """Times from T0. Buyer ids are not the shoppers' numbers."""
    at_ms = [OPENS_AT_MS + 1000 * each for each in (reserved, reserved + 0.05, reserved + HOLD_SECONDS)]
    return Row(100 + who, 1, state, *at_ms, None if ended is None else OPENS_AT_MS + 1000 * ended, order)


def _records() -> list[Record]:
    made = [record("page", who, -3.0 + who / 10, 200) for who in range(5)]
    made += [Record(METRONOME, "", 0, T0 + at / 10, T0 + at / 10 + 0.001, T0 + at / 10 + 0.001, 0) for at in range(50)]
    for who, (name, at) in CLICKS.items():
        made.append(record("ticket", who, at - 0.02, 200, "TICKET"))
        made.append(record("buy", who, at, 202, "RESERVED", about=name, ticket=f"ticket of {who}"))
        made.append(record("poll", who, at + 0.5, 200, "placed", about=name))
    made += [record("poll", who, 2.0 + who, 200, "paid", about=CLICKS[who][0]) for who in (ANN, BOB)]
    made.append(record("ticket", EVE, 2.0, 409, "SOLD_OUT"))
    made.append(record(CHEAT, 5, 1.0, 403, "TICKET_REFUSED", role="shared tickets", ticket="ticket of 0"))
    return made


def _samples() -> list[Sample]:
    """Counters by what happens at each moment, every 50 ms from a second before T0 to eight after."""
    made = []
    for step in range(-20, 161):
        at = step / 20
        held = sum(at > clicked for who, (_, clicked) in CLICKS.items() if who != DAN)
        held += -(at > 1.5) - (at > 2.5) - (at > 5.3) + (at > 6.0) - (at > 7.0)
        sold = (at > 1.5) + (at > 2.5) + (at > 7.0)
        made.append(Sample(OPENS_AT_MS + step * 50, 3, 3 - held - sold, held, sold, 0))
    return made


def _books() -> Books:
    reservations = {
        "1-ann": row(ANN, "confirmed", "paid", 0.1, 1.5),
        "1-bob": row(BOB, "confirmed", "paid", 0.2, 2.5),
        "1-cid": row(CID, "expired", "expired", 0.3, 5.3),
        "1-dan": row(DAN, "confirmed", "paid", 6.0, 7.0),
    }
    said = {"confirmed": "paid", "expired": "expired"}
    return Books(
        quantity=3,
        held=0,
        sold=3,
        reservations=reservations,
        buyers={each.buyer: (1 if each.state == "confirmed" else 0, 1) for each in reservations.values()},
        redis={"quantity": 3, "available": 0, "held": 0, "sold": 3, "waiting": 0},
        redis_reservations={name: (said[each.state], each.buyer, 1) for name, each in reservations.items()},
        now_ms=OPENS_AT_MS + 9_000,
    )


def honest_sale() -> Evidence:
    plan = Plan(
        shape="spike",
        host="http://127.0.0.1:1",
        sale="small",
        offer=1,
        quantity=3,
        limit=1,
        hold_seconds=HOLD_SECONDS,
        begins_at_ms=OPENS_AT_MS - 3_000,
        opens_at_ms=OPENS_AT_MS,
        ends_at_ms=OPENS_AT_MS + 8_000,
        users=5,
        bots=1,
        seed=1,
    )
    return Evidence(plan, _records(), _samples(), _books())
