"""The provider's books: charges, refunds, and the events the shop has still to hear about.

Everything that happens is one line of an append-only journal, on the disk before anybody is told. A restart
reads the lines and has the same books, because live and replayed lines take the same path: `_apply`.
"""

import fcntl
import json
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from .provider_requests import ChargeRequest, Conflict, NotFound, RefundRequest

PENDING, SUCCEEDED, FAILED, EXPIRED = "pending", "succeeded", "failed", "expired"

Kept = TypeVar("Kept", "Charge", "Refund")


@dataclass(frozen=True, kw_only=True)
class Charge(ChargeRequest):
    id: str
    decision: str | None = None
    refunded_minor: int = 0

    @property
    def state(self) -> str:
        """A decision is for ever; without one, the charge can be paid until its time is over."""
        if self.decision:
            return self.decision
        is_over = self.expires_at_ms is not None and now_ms() >= self.expires_at_ms
        return EXPIRED if is_over else PENDING


@dataclass(frozen=True, kw_only=True)
class Refund(RefundRequest):
    id: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a callback tells the shop; sent again, it is the same to the byte."""

    event_id: str
    type: str
    charge: str
    reference: str
    amount_minor: int
    currency: str
    refund: str | None
    occurred_at_ms: int


class Ledger:
    """Thread-safe. A write that fails on the disk changes nothing here either, and raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._charges: dict[str, Charge] = {}
        self._charge_ids: dict[str, str] = {}
        self._refunds: dict[str, Refund] = {}
        self._unheard: dict[str, Event] = {}

        self._journal = Journal(path)
        for entry in self._journal.read():
            self._apply(entry)

    def __len__(self) -> int:
        return len(self._charges)

    def charge(self, charge_id: str) -> Charge:
        try:
            return self._charges[charge_id]
        except KeyError:
            raise NotFound("no such charge") from None

    def unheard(self) -> list[Event]:
        """Events that no callback has delivered yet, oldest first."""
        with self._lock:
            return list(self._unheard.values())

    def open_charge(self, request: ChargeRequest) -> tuple[Charge, bool]:
        """The charge, and whether it is new; `Conflict` when its key was used with other values."""
        with self._lock:
            if known := self._charge_ids.get(request.idempotency_key):
                return _same(self._charges[known], request), False

            charge = Charge(id=_new_id("ch"), **asdict(request))
            self._record({"charge": asdict(charge)})
            return charge, True

    def decide(self, charge_id: str, decision: str) -> Event | None:
        """Settle a charge exactly once; None when somebody was first or its time is over."""
        with self._lock:
            charge = self.charge(charge_id)
            if charge.state != PENDING:
                return None

            event = _event(f"charge.{decision}", charge, charge.amount_minor)
            self._record({"decided": charge_id, "decision": decision, "event": asdict(event)})
            return event

    def refund(self, request: RefundRequest) -> tuple[Refund, Event | None]:
        """The refund, and its event when it is new; `Conflict` when there is not that much to give back."""
        with self._lock:
            if known := self._refunds.get(request.idempotency_key):
                return _same(known, request), None

            charge = self.charge(request.charge)
            if charge.decision != SUCCEEDED:
                raise Conflict("only a charge that succeeded can be refunded")
            if request.amount_minor > (left := charge.amount_minor - charge.refunded_minor):
                raise Conflict(f"only {left} is left to refund")

            refund = Refund(id=_new_id("re"), **asdict(request))
            event = _event("refund.succeeded", charge, refund.amount_minor, refund.id)
            self._record({"refund": asdict(refund), "event": asdict(event)})
            return refund, event

    def settle(self, event: Event, how: str) -> None:
        """No more callbacks for this event: it was delivered, dropped or given up."""
        with self._lock:
            self._record({"settled": event.event_id, "how": how})

    def _record(self, entry: dict[str, Any]) -> None:
        self._journal.append(entry)
        self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"charge": values}:
                charge = Charge(**values)
                self._charges[charge.id] = charge
                self._charge_ids[charge.idempotency_key] = charge.id
            case {"decided": charge_id, "decision": decision, "event": event}:
                self._charges[charge_id] = replace(self._charges[charge_id], decision=decision)
                self._unheard[event["event_id"]] = Event(**event)
            case {"refund": values, "event": event}:
                refund, charge = Refund(**values), self._charges[values["charge"]]
                refunded_minor = charge.refunded_minor + refund.amount_minor
                self._charges[charge.id] = replace(charge, refunded_minor=refunded_minor)
                self._refunds[refund.idempotency_key] = refund
                self._unheard[event["event_id"]] = Event(**event)
            case {"settled": event_id}:
                self._unheard.pop(event_id, None)
            case _:
                raise ValueError(f"not a line of this journal: {entry}")


class Journal:
    """One JSON object a line, on the disk when `append` returns. Its owner lets one thread in at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two providers would miss each other's lines

    def read(self) -> list[dict[str, Any]]:
        """All entries. Half a line at the end was never answered for, so it is cut off."""
        self._file.seek(0)
        lines, newline, _torn = self._file.read().rpartition(b"\n")
        self._file.truncate(len(lines + newline))
        return [json.loads(line) for line in lines.splitlines()]

    def append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError("the disk took only part of a line")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # half a line would spoil the next one, and this one is refused
            raise


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _same(kept: Kept, request: ChargeRequest | RefundRequest) -> Kept:
    if any(getattr(kept, field.name) != getattr(request, field.name) for field in fields(request)):
        raise Conflict("this idempotency_key was used with other values")
    return kept


def _event(kind: str, charge: Charge, amount_minor: int, refund: str | None = None) -> Event:
    return Event(
        event_id=_new_id("ev"),
        type=kind,
        charge=charge.id,
        reference=charge.reference,
        amount_minor=amount_minor,
        currency=charge.currency,
        refund=refund,
        occurred_at_ms=now_ms(),
    )


def _new_id(prefix: str) -> str:
    """A name that cannot be guessed: whoever knows a charge's id may pay it."""
    return f"{prefix}_{secrets.token_hex(12)}"
