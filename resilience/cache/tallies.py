"""What happened to reads, counted for each group of keys: `sale:summer:page:en` counts for `sale:summer`, and both
`offer:7` and `offer:8` for `offer`."""

import threading
import time
from collections import Counter
from collections.abc import Iterable

from resilience.empty import nothing_for_nothing
from resilience.metrics import CACHE_READS

#: Groups counted by name; more would be somebody's random keys, and count together.
GROUPS_MAXIMUM = 1_000
OTHERS = "others"

#: What is counted besides hits in process memory, which each Tally counts itself.
EVENTS = (
    "memcached",  # hits of the second tier
    "redis",  # hits of the third tier
    "stale",  # old values served while somebody loads a new one
    "joined",  # readers that waited for another reader of this process
    "waited",  # keys that were waited for, because another process loads them
    "loads",
    "refreshes",  # loads in the background, before or after an entry went stale
    "fenced",  # loaded values that were thrown away: invalidated meanwhile, or too late
    "negative",  # loads that found nothing
    "errors",  # loads that failed
    "unreadable",  # entries of another form, overwritten
)

#: Seconds after which hits in process memory are reported to Prometheus, by whoever reads past it then. A key that is
#: read all the time leaves memory each second, so no thread is needed for that.
REPORT_SECONDS = 1.0

_READS = {event: CACHE_READS.labels(event) for event in ("memory", *EVENTS)}


class Tally:
    """The counts of one group. `hits` is counted by the reader: the one number that is changed a million times a
    second."""

    __slots__ = ("counts", "hits")

    def __init__(self) -> None:
        self.hits = 0
        self.counts: Counter[str] = Counter()


class Tallies:
    def __init__(self) -> None:
        self._groups: dict[str, Tally] = {}
        self._start_over()

    def _start_over(self) -> None:
        self._changing = threading.Lock()
        self._reported_hits = 0
        self._report_at = 0.0

    def of(self, name: str) -> Tally:
        """The tally that a key counts for."""
        parts = name.split(":", 2)
        group = parts[0] if len(parts) < 3 else f"{parts[0]}:{parts[1]}"
        return self._groups.get(group) or self._new(group)

    def _new(self, group: str) -> Tally:
        with self._changing:
            if len(self._groups) >= GROUPS_MAXIMUM:
                group = OTHERS
            return self._groups.setdefault(group, Tally())

    @nothing_for_nothing(of="names")
    def count(self, event: str, names: Iterable[str]) -> None:
        times = Counter(map(self.of, names))
        with self._changing:
            for tally, number in times.items():
                tally.counts[event] += number
        _READS[event].inc(times.total())
        if time.monotonic() >= self._report_at:
            self.report()

    def report(self) -> None:
        """Tell Prometheus of the hits in memory since the last time. They are too many to tell of each: one costs 0.1
        us, and a counter that other processes can read ten times as much."""
        with self._changing:
            hits = sum(tally.hits for tally in self._groups.values())
            new, self._reported_hits = hits - self._reported_hits, hits
            self._report_at = time.monotonic() + REPORT_SECONDS
        _READS["memory"].inc(new)

    def total(self, group: str | None = None) -> dict[str, int]:
        """The counts of a group, or of all: `memory` and each of EVENTS."""
        with self._changing:
            chosen = list(self._groups.values()) if group is None else [self._groups.get(group, Tally())]
        return {
            "memory": sum(tally.hits for tally in chosen),
            **{event: sum(tally.counts[event] for tally in chosen) for event in EVENTS},
        }

    def reset_after_fork(self) -> None:
        self._start_over()
        self._groups.clear()
