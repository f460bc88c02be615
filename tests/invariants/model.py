"""The specification: an offer as two dictionaries that hear of each other late. No clock, no server, no race.

`holds` is what Redis knows, `rows` what PostgreSQL has written down, and between them go events (Redis to PostgreSQL)
and effects (back). Every rule of the inventory is one short method here; test_model.py holds the real thing to it.
"""

from dataclasses import dataclass, field, replace

#: A buyer whose orders PostgreSQL refuses: the account is gone.
NOBODY = 9
#: The most events that may wait, and the most that the drain takes at once.
EVENTS_MAXIMUM, BATCH_EVENTS = 8, 3
#: Who drains during a recovery, and claims what others had begun.
RECOVERER = "recoverer"


class Died(BaseException):
    """The process ended here: nothing in it catches this."""


class Lost(Exception):
    """Redis does not know the offer: what was asked for waits."""


@dataclass(frozen=True)
class Hold:
    buyer: int
    units: int
    state: str = "held"


@dataclass(frozen=True)
class Wish:
    """`valid` is False when one of its fields is no whole number, no name or no reason."""

    reservation: str
    buyer: int
    units: int
    late: bool = False
    valid: bool = True


@dataclass
class Event:
    reservation: str
    hold: Hold
    delivered: bool = False
    reader: str | None = None


@dataclass
class Effect:
    word: str
    epoch: int
    applied: bool = False


@dataclass(eq=False)
class Change:
    units: int
    epoch: int


@dataclass
class Receipt:
    hold: Hold
    epoch: int
    at_ms: int


def live(holds: dict[str, Hold], buyer: int | None = None) -> int:
    """Units held and owned, by one buyer or by all."""
    going = ("held", "placed", "paid", "confirmed")
    return sum(hold.units for hold in holds.values() if hold.state in going and buyer in (None, hold.buyer))


@dataclass
class OfferModel:
    """One offer, just put on the shelf."""

    recorded_quantity: int
    limit: int
    state: str = "open"
    window: str = "open"
    epoch: int = 1
    recovering: bool = False
    rows: dict[str, Hold] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)
    claims: dict[str, Receipt] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)

    highest_limit: int = 0
    quantity: int | None = None
    shelf_epoch: int | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    has_stream: bool = True
    lost_events: int = 0
    moved: dict[Change, int] = field(default_factory=dict)

    receipts: dict[str, Receipt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.quantity, self.shelf_epoch = self.recorded_quantity, self.epoch
        self.highest_limit = self.limit

    # --- Redis decides

    @property
    def available(self) -> int:
        return (self.quantity or 0) - live(self.holds)

    @property
    def waiting(self) -> int:
        """As Redis counts them: those that were lost with the stream too."""
        return self.lost_events + sum(event.reader is not None or not event.delivered for event in self.events)

    def reserve(self, wishes: list[Wish]) -> list[str]:
        """A word for each, as if they came one after the other."""
        return [self._decide(wish) for wish in wishes]

    def _decide(self, wish: Wish) -> str:
        if not wish.valid:
            return "INVALID"
        if known := self.holds.get(wish.reservation):
            return "REPEATED" if (known.buyer, known.units) == (wish.buyer, wish.units) else "MISMATCH"
        if refusal := self._door() or ("" if wish.late else self._window()):
            return refusal
        if live(self.holds, wish.buyer) + wish.units > self.limit:
            return "LIMIT_REACHED"
        if wish.units > self.available:
            return "SOLD_OUT"
        self.holds[wish.reservation] = hold = Hold(wish.buyer, wish.units)
        self.events.append(Event(wish.reservation, hold))
        return "RESERVED"

    def _door(self) -> str:
        if self.quantity is None:
            return "UNAVAILABLE"
        if self.recovering or self.state == "paused":
            return "PAUSED"
        return "BUSY" if self.waiting >= EVENTS_MAXIMUM else ""

    def _window(self) -> str:
        if self.state == "closed" or self.window == "over":
            return "CLOSED"
        return "NOT_OPEN" if self.window == "before" else ""

    # --- PostgreSQL remembers

    def drain(self, reader: str, claims: bool, dies_at: str = "") -> int:
        """Record what waits, batch by batch; a process that dies leaves its batch to be read again."""
        if not self.has_stream:
            raise Lost
        count = 0
        while batch := self._next_batch(reader, claims):
            count += len(batch)
            die("drain.read", dies_at)
            for event in batch:
                self._record(event.reservation, event.hold, dies_at)
            die("drain.committed", dies_at)
            for event in batch:
                self._tell(event.reservation)
            die("drain.told", dies_at)
            for event in batch:
                event.reader = None
        return count

    def _next_batch(self, reader: str, claims: bool) -> list[Event]:
        """What it had before it died, else what the dead have left, else what is new."""
        mine = [event for event in self.events if event.reader == reader]
        left = [event for event in self.events if event.reader and claims]
        new = [event for event in self.events if not event.delivered]
        batch = (mine or left or new)[:BATCH_EVENTS]
        for event in batch:
            event.reader = reader
            event.delivered |= not (mine or left)
        return batch

    def _record(self, reservation: str, hold: Hold, dies_at: str = "") -> None:
        """Once; refused, and told so, when there is no unit or no buyer for it."""
        fits = reservation in self.rows or self._fits(hold)
        if fits:
            die("drain.uncommitted", dies_at)
        if reservation not in self.rows:
            self.rows[reservation] = replace(hold, state="held" if fits else "refused")
            if not fits:
                self.effects[reservation] = Effect("refused", self.epoch)

    def _fits(self, hold: Hold) -> bool:
        """By the highest limit there ever was: it may be on its way since then."""
        within_limit = live(self.rows, hold.buyer) + hold.units <= self.highest_limit
        within_stock = live(self.rows) + hold.units <= self.recorded_quantity
        return within_limit and within_stock and hold.buyer != NOBODY

    def _tell(self, reservation: str) -> None:
        """The polls read what is committed; once refused, always refused."""
        known, word = self.holds.get(reservation), {"held": "placed", "refused": "refused"}
        state = self.rows[reservation].state
        reached = state == "held" or self.shelf_epoch is not None
        if known and known.state == "held" and state in word and reached:
            self.holds[reservation] = replace(known, state=word[state])

    def tell_late(self, reservation: str) -> None:
        """A status never goes back."""
        known = self.holds.get(reservation)
        if known and known.state == "held":
            self.holds[reservation] = replace(known, state="placed")

    def replay(self) -> None:
        """Every event that is kept is read again."""
        for event in self.events:
            event.delivered = False

    def reread(self) -> int:
        """Every event that is kept is written down, and stays as open as it was; answers how many are missing."""
        if not self.has_stream and not self.events:
            raise Lost
        for event in self.events:
            self._record(event.reservation, event.hold)
        for event in self.events:
            self._tell(event.reservation)
        return len(self.holds.keys() - self.rows.keys())

    def trim(self) -> int:
        """Forget the oldest events, up to the first that is open or unread."""
        before = len(self.events)
        while not self.recovering and self.events and self.events[0].delivered and not self.events[0].reader:
            del self.events[0]
        return before - len(self.events)

    # --- PostgreSQL ends, Redis hears

    def end(self, reservation: str, state: str) -> bool:
        """True for whoever comes first."""
        row = self.rows.get(reservation)
        if row is None or row.state != "held":
            return False
        self.rows[reservation] = replace(row, state=state)
        self.effects[reservation] = Effect("paid" if state == "confirmed" else state, self.epoch)
        return True

    def expire(self) -> list[str]:
        return [reservation for reservation in sorted(self.due) if self.end(reservation, "expired")]

    def apply(self, again: bool = False) -> None:
        """Settle in Redis what ended; not what belongs to an earlier filling of it, and nothing twice."""
        for reservation, effect in self.effects.items():
            known = self.holds.get(reservation)
            due = again or not effect.applied
            if due and known and known.state in ("held", "placed") and effect.epoch == self.shelf_epoch:
                self.holds[reservation] = replace(known, state=effect.word)
            effect.applied = True

    # --- staff

    def change(self, units: int, dies_at: str = "") -> None:
        """Units come in PostgreSQL first, and go in Redis first, where only free ones can."""
        asked = Change(units, self.epoch)
        self.pending.append(asked)
        self.recorded_quantity += max(units, 0)
        die("change.asked", dies_at)
        self._finish(asked, dies_at)

    def finish_changes(self) -> None:
        for asked in [] if self.recovering else list(self.pending):
            self._finish(asked)

    def _finish(self, asked: Change, dies_at: str = "") -> None:
        if self.quantity is not None and asked not in self.moved and asked.epoch == self.shelf_epoch:
            self.moved[asked] = max(asked.units, -self.available)
            self.quantity += self.moved[asked]
        die("change.moved", dies_at)
        if self.quantity is None:
            raise Lost
        if asked in self.moved:
            self.recorded_quantity += min(self.moved[asked], 0)
        elif asked.units < 0:  # Redis was filled anew with these units in it
            if asked.epoch == self.epoch:
                raise Lost
            asked.epoch = self.epoch
            self._finish(asked, dies_at)
            return
        self.pending.remove(asked)

    def change_limit(self, limit: int) -> None:
        """Whoever has more keeps it, and PostgreSQL refuses nothing that Redis has let happen under a higher one."""
        if self.quantity is None and not self.recovering:
            raise Lost
        self.limit, self.highest_limit = limit, max(limit, self.highest_limit)

    def show(self, state: str, window: str) -> None:
        if self.quantity is None and not self.recovering:
            raise Lost
        self.state, self.window = state, window

    # --- Redis goes back in time

    @property
    def lost(self) -> bool:
        return self.quantity is None or not self.has_stream

    def lose(self, what: str) -> None:
        if what in ("everything", "events"):
            self.lost_events, self.events, self.has_stream = self.waiting, [], False
        if what in ("everything", "units"):
            self.quantity = self.shelf_epoch = None
        if what in ("everything", "reservations", "buyers"):
            self.holds = {}
        if what in ("everything", "changes"):
            self.moved = {}

    def vanished(self) -> list[str]:
        """Told to their buyers, and known to neither store."""
        return [pk for pk in self.receipts if pk not in self.holds and pk not in self.rows]

    def claim(self, reservation: str) -> None:
        """The buyer shows the receipt; one of this epoch proves the loss."""
        receipt = self.receipts[reservation]
        self.claims.setdefault(reservation, receipt)
        if receipt.epoch == self.epoch and not self.recovering:
            self._begin()

    def watch(self) -> None:
        if self.lost and not self.recovering:
            self._begin()
        if self.recovering:
            self._end_recovery()
        for reservation, receipt in self._claims_in_order():
            self._settle_late(reservation, receipt.hold)

    def rebuild(self) -> None:
        self._begin()
        self._end_recovery()

    def _begin(self) -> None:
        self.epoch += 1
        self.recovering = True
        if self.has_stream:
            self.drain(RECOVERER, claims=True)

    def _claims_in_order(self) -> list[tuple[str, Receipt]]:
        return sorted(self.claims.items(), key=lambda claim: (claim[1].at_ms, claim[0]))

    def _end_recovery(self) -> None:
        """What survived counts, then what was shown, the earliest first, while there are units; the rest is gone."""
        if self.has_stream:
            self.drain(RECOVERER, claims=True)
        for reservation, receipt in self._claims_in_order():
            self._record(reservation, receipt.hold)
        self.claims.clear()
        self.epoch, self.recovering = self.epoch + 1, False
        self.quantity, self.shelf_epoch = self.recorded_quantity, self.epoch
        words = {"held": "placed", "confirmed": "paid"}
        self.holds = {pk: replace(row, state=words.get(row.state, row.state)) for pk, row in self.rows.items()}
        self.events, self.lost_events, self.has_stream, self.moved = [], 0, True, {}

    def _settle_late(self, reservation: str, hold: Hold) -> None:
        """Shown after the window: units like for anybody who comes now, else a word."""
        [word] = self.reserve([Wish(reservation, hold.buyer, hold.units, late=True)])
        if word in ("UNAVAILABLE", "PAUSED", "BUSY"):
            return
        if word not in ("RESERVED", "REPEATED") and reservation not in self.rows:
            self.rows[reservation] = replace(hold, state="refused")
            self.effects[reservation] = Effect("refused", self.epoch)
        del self.claims[reservation]


def die(here: str, dies_at: str) -> None:
    if here == dies_at:
        raise Died
