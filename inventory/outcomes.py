"""The words a wish for units can be answered with, spelled as the scripts return them, and what can break instead."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    RESERVED = "RESERVED"
    REPEATED = "REPEATED"
    SOLD_OUT = "SOLD_OUT"
    LIMIT_REACHED = "LIMIT_REACHED"
    NOT_OPEN = "NOT_OPEN"
    CLOSED = "CLOSED"
    MISMATCH = "MISMATCH"
    PAUSED = "PAUSED"
    #: Not paused by anybody: Redis does not know the offer, or cannot be asked.
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"
    BUSY = "BUSY"
    INVALID = "INVALID"

    @property
    def yours(self) -> bool:
        return self in (Outcome.RESERVED, Outcome.REPEATED)

    @property
    def is_final(self) -> bool:
        """False when the same wish may be answered otherwise in a moment."""
        return self not in (Outcome.UNAVAILABLE, Outcome.UNKNOWN, Outcome.BUSY, Outcome.PAUSED)


class Wish(NamedTuple):
    """One buyer's wish for units of an offer. The reservation's id comes from the ticket.

    reason: empty, or `late` for money that came after its hold had ended, which needs no open sale.
    """

    reservation_id: str
    buyer_id: int
    units: int = 1
    reason: str = ""


class Answer(NamedTuple):
    """What became of a wish. `epoch` and `at_ms` (Redis's clock) go into the receipt; 0 when Redis was not asked."""

    reservation_id: str
    outcome: Outcome
    epoch: int = 0
    at_ms: int = 0


class Standing(NamedTuple):
    """Where a reservation stands, as its buyer's polls read it.

    state: held, placed, paid, expired, released or refused. `order` and `expires_at_ms` come with placed. `waiting`:
    how many holds of its offer PostgreSQL has yet to hear of, this one among them; None when nobody was asked.
    """

    reservation_id: str
    state: str
    buyer_id: int
    units: int
    order: str | None = None
    expires_at_ms: int | None = None
    waiting: int | None = None


class Recorded(NamedTuple):
    """A held reservation that PostgreSQL knows: what an order is made of. Its fields are named as the model's are; an
    instance of the model takes ten times as long to make, which is felt in batches of hundreds."""

    pk: str
    stock_id: int
    buyer_id: int
    units: int
    reason: str
    expires_at: datetime


class InventoryUnavailable(Exception):
    """Stock Redis cannot be asked, and nothing was sent: whatever was wanted did not happen."""


class InventoryFull(InventoryUnavailable):
    """Stock Redis answers and takes no more: its memory is full, or it cannot write to its disk."""


class AnswerLost(Exception):
    """The command was sent and no answer came: what was wanted may have happened."""
