"""One line for each thing that was asked: what a verdict is made of, and can be made of again."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Kinds that say how the client itself did.
METRONOME, PROCESSOR = "metronome", "processor"
#: What is asked in vain by those who cheat.
CHEAT = "cheat"
#: Answers that decide a click or follow it up: what buyers do.
BUYING = ("ticket", "buy")


class Record(NamedTuple):
    """Times are the server's, in seconds since the epoch. `status` 0: no answer, or a connection that broke."""

    kind: str
    #: `shopper`, or how the bot cheats.
    role: str
    who: int
    #: When it was to be sent; when it was; when its answer had come, or was given up.
    at: float
    sent: float
    done: float
    status: int
    #: RESERVED, SOLD_OUT ... for clicks, the phase for states, the state for polls.
    word: str = ""
    #: The reservation it is about.
    about: str = ""
    #: What named it: the beginning of the ticket's seal.
    ticket: str = ""

    @property
    def seconds(self) -> float:
        """From the moment at which it was to be sent."""
        return self.done - self.at

    @property
    def is_refusal(self) -> bool:
        """Said at once that it is too much, with nothing done."""
        return self.status == 429 or (self.status == 503 and self.word in ("BUSY", ""))

    @property
    def is_served(self) -> bool:
        """An answer that somebody can act on: also `sold out`."""
        return 200 <= self.status < 500 and self.status != 429

    @property
    def is_of_the_client(self) -> bool:
        return self.kind in (METRONOME, PROCESSOR)


def lines(records: Iterable[Record]) -> str:
    return "".join(f"{_as_json(record)}\n" for record in records)


def as_array(records: Iterable[Record]) -> str:
    """One by one, because Python lets no other thread in while it writes a whole list as JSON."""
    return f"[{','.join(map(_as_json, records))}]"


def _as_json(record: Record) -> str:
    return json.dumps(record, separators=(",", ":"))


def read(path: Path) -> list[Record]:
    with path.open() as file:
        return [Record(*json.loads(line)) for line in file]


class Tail:
    """What has been written to the file since the last look; half a line waits for its other half."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+")
        self._file.seek(0)
        self._rest = ""

    def new(self) -> Iterator[Record]:
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        return (Record(*json.loads(line)) for line in whole)
