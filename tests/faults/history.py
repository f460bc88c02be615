"""What the clients of a round saw, as in Jepsen: each line was written before the client went on, and stays.

A question without an answer is unknown: it may have happened or not. An answer is a promise.
"""

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

YOURS = ("RESERVED", "REPEATED")


class Log:
    """One process's lines, each appended at once by one write, so that kill -9 cuts none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def asked(self, reservation_id: str, buyer_id: int, units: int) -> None:
        self._write(what="asked", id=reservation_id, buyer=buyer_id, units=units)

    def answered(self, reservation_id: str, outcome: str, receipt: str | None) -> None:
        self._write(what="answered", id=reservation_id, outcome=outcome, receipt=receipt)

    def told(self, reservation_id: str, state: str) -> None:
        self._write(what="told", id=reservation_id, state=state)

    def wants(self, what: str, reservation_id: str) -> None:
        self._write(what=f"wants {what}", id=reservation_id)

    def has(self, what: str, reservation_id: str) -> None:
        self._write(what=f"has {what}", id=reservation_id)

    def broken(self, error: str) -> None:
        self._write(what="broken", id="", error=error)

    def _write(self, **line: Any) -> None:
        with self._lock:
            os.write(self._file, json.dumps(line).encode() + b"\n")


@dataclass
class Story:
    """All that the clients know of one reservation."""

    buyer_id: int
    units: int
    presses: int = 0
    outcomes: list[str] = field(default_factory=list)
    receipt: str = ""
    states: list[str] = field(default_factory=list)
    wants: set[str] = field(default_factory=set)
    has: set[str] = field(default_factory=set)

    @property
    def acknowledged(self) -> bool:
        return self.receipt != ""

    @property
    def is_unknown(self) -> bool:
        """The buyer heard nothing, or that nobody knows."""
        return "UNKNOWN" in self.outcomes or self.presses > len(self.outcomes)


@dataclass
class History:
    stories: dict[str, Story] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, paths: list[Path]) -> Self:
        history = cls()
        for path in paths:
            for line in path.read_text().splitlines() if path.exists() else []:
                history._take(**json.loads(line))
        return history

    def _take(self, what: str, id: str, **facts: Any) -> None:
        match what.split(maxsplit=1):
            case ["asked"]:
                self.stories.setdefault(id, Story(facts["buyer"], facts["units"])).presses += 1
            case ["answered"]:
                self.stories[id].outcomes.append(facts["outcome"])
                self.stories[id].receipt = facts["receipt"] or self.stories[id].receipt
            case ["told"]:
                self.stories[id].states.append(facts["state"])
            case ["wants", wish]:
                self.stories[id].wants.add(wish)
            case ["has", wish]:
                self.stories[id].has.add(wish)
            case ["broken"]:
                self.broken.append(facts["error"])

    @property
    def receipts(self) -> list[tuple[str, int, str]]:
        """(reservation id, buyer, receipt) of everything that was acknowledged."""
        return [(pk, story.buyer_id, story.receipt) for pk, story in self.stories.items() if story.acknowledged]
