"""Whether a web process grows: its memory after a million requests, less what it had after the first part of them."""

import resource
from pathlib import Path

from loadtests.contenders.lanes import prepared, serving
from loadtests.contenders.lanes.hot import same_for_all
from loadtests.contenders.lanes.wrk import run
from loadtests.contenders.overload import processors
from loadtests.figures import Sample
from loadtests.house import House

#: Requests before the first look, and before the last one.
FIRST, LAST = 200_000, 1_000_000
#: Seconds of one portion of them.
PORTION_SECONDS = 5
#: Different buyers among them.
BUYERS = 20_000


class WebMemory:
    """A mix of what a spike consists of: pages, states, clicks and polls, by buyers who all differ."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        offers = prepared.offers_on_sale(10)
        mix = [*prepared.clicks(offers, BUYERS), *prepared.polls(next(iter(offers)), BUYERS)]
        mix += [same_for_all(slug, what) for slug in offers.values() for what in ("", "state")] * 500
        serving.look_at(server, offers.values())
        sent, first = 0, 0
        while sent < LAST:
            with self._house.apart():
                sent += run(self._house.program("wrk"), server.port, mix, PORTION_SECONDS).requests
            if not first and sent >= FIRST:
                first = _resident(server.pid)
        return [
            Sample((_resident(server.pid) - first) / 1e6, "MB", "growth"),
            Sample(_resident(server.pid) / 1e6, "MB", "resident"),
        ]


def _resident(pid: int) -> int:
    """Bytes of all its processes."""
    pages = (int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processors.family_of(pid))
    return sum(pages) * resource.getpagesize()
