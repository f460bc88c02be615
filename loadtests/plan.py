"""What a run asks of a shop, as one value: made by `load.py`, followed by the client, read again by the verdict."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

#: People whom one source of arrivals keeps waiting: a Locust user costs more than a greenlet, and a hundred sources
#: spread well over processes.
PEOPLE_A_SOURCE = 25


@dataclass(frozen=True)
class Plan:
    """All moments are the server's, in milliseconds since the epoch."""

    shape: str
    host: str
    sale: str
    offer: int
    quantity: int
    #: Units a buyer may have.
    limit: int
    hold_seconds: float
    begins_at_ms: int
    opens_at_ms: int
    ends_at_ms: int
    #: People, of whom each has a buyer cookie; the last `bots` of them cheat.
    users: int
    bots: int
    seed: int
    #: Clicks of those who wait for the opening are drawn over so many seconds.
    spread_seconds: float = 2.0
    #: Arrivals a second, where people do not wait for the opening but come as they please.
    rate: float = 0.0
    #: The server's clock is so far ahead of the one of this machine.
    ahead_ms: float = 0.0
    #: The clocks of the shoppers' own devices are so far ahead of the true time.
    devices_off_ms: float = 0.0

    @property
    def people(self) -> int:
        return self.users + self.bots

    @property
    def seconds(self) -> float:
        return (self.ends_at_ms - self.begins_at_ms) / 1000

    def begun_at(self, now_ms: float) -> Self:
        """The same for those who come at random: it begins when the client is there, and not when it was started."""
        begins_at_ms = round(now_ms)
        return replace(self, begins_at_ms=begins_at_ms, ends_at_ms=begins_at_ms + self.ends_at_ms - self.begins_at_ms)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, told: str | dict[str, Any]) -> Self:
        return cls(**(json.loads(told) if isinstance(told, str) else told))


def shares(cookies: list[str], parts: int) -> list[list[tuple[int, str]]]:
    """The people, numbered, dealt to so many processes or machines: each person is in one part only."""
    people = list(enumerate(cookies))
    return [people[number::parts] for number in range(parts)]
