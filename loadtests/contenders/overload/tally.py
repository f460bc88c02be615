"""What became of each request, counted while they are under way: adding to a list is all that may cost time then."""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from loadtests.contenders.overload.load import Count, Load, Report, Seen, Waits
from loadtests.figures import percentile

#: Seconds in which an answer is of use to somebody who waits for it.
GOOD_SECONDS = 0.5
#: Too busy, said at once.
REFUSED = 503


class Sent(Protocol):
    """What is counted by: the stage and the importance of a request."""

    stage: int
    importance: int


class Tally:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._parts = [{kind.importance: _Part() for kind in load.kinds} for _ in load.stages]
        self._lateness = array("d")

    def begun(self, request: Sent, late_seconds: float) -> None:
        self._parts[request.stage][request.importance].offered += 1
        self._lateness.append(late_seconds)

    def answered(self, request: Sent, status: int, seconds: float) -> None:
        part = self._parts[request.stage][request.importance]
        if status == REFUSED:
            part.refused.append(seconds)
        elif 200 <= status < 300:
            part.served.append(seconds)
        else:
            part.others[status] += 1

    def lost(self, request: Sent) -> None:
        self._parts[request.stage][request.importance].lost += 1

    def report(self, pinned: bool) -> Report:
        stages = [
            Seen(
                stage,
                {importance: part.count() for importance, part in parts.items()},
                _waits(part.served for part in parts.values()),
                _waits(part.refused for part in parts.values()),
                dict(sum((part.others for part in parts.values()), Counter())),
            )
            for stage, parts in zip(self._load.stages, self._parts, strict=True)
        ]
        return Report(stages, _waits([self._lateness]).p99, pinned)


class _Part:
    def __init__(self) -> None:
        self.offered = self.lost = 0
        self.others: Counter[int] = Counter()
        self.served, self.refused = array("d"), array("d")

    def count(self) -> Count:
        good = sum(seconds <= GOOD_SECONDS for seconds in self.served)
        return Count(self.offered, good, len(self.served) - good, len(self.refused), self.others.total(), self.lost)


def _waits(parts: Iterable[array]) -> Waits:
    """Of all parts together, in milliseconds; noughts when there are none."""
    seconds = sorted(each for part in parts for each in part)
    return Waits(*(percentile(seconds, part) * 1000 for part in (0.5, 0.99, 1.0))) if seconds else Waits()
