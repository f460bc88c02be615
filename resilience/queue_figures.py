"""What the last second at a queue was like: how long it took, and how many of each importance were refused.

Counts in a ring of slices, each of a quarter of a second, so that noting is an addition and the past falls off by
itself. Delays are counted in classes: a percentile is exact to a third, which is what a decision about levels needs.
"""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

#: Seconds of a slice: as often as the level of a service is looked at.
SLICE_SECONDS = 0.25
#: Slices that are kept: two seconds, and the one that is being filled.
SLICES = 9
#: Upper bounds of the classes of delay in seconds: 1 ms, and a third more each time, to 7 s.
DELAY_BOUNDS = tuple(0.001 * (4 / 3) ** step for step in range(32))
#: The share of requests that had to wait less than what is told.
PERCENTILE = 0.9


@dataclass(frozen=True, slots=True)
class Figures:
    """By importance: how many came, and how many of them were refused. The delay is of those that got in or waited in
    vain; to be refused at once takes no time."""

    arrived: tuple[int, ...]
    refused: tuple[int, ...]
    queue_delay_p90_seconds: float

    def share_refused(self, importance: int) -> float:
        """0.0 when nobody came."""
        return self.refused[importance] / max(1, self.arrived[importance])


class _Slice:
    """What happened in one quarter of a second."""

    __slots__ = ("arrived", "delays", "number", "refused")

    def __init__(self, importances: int) -> None:
        self.number = -1
        self.arrived = [0] * importances
        self.refused = [0] * importances
        self.delays = [0] * (len(DELAY_BOUNDS) + 1)


class QueueFigures:
    """Not for several threads: whoever owns it has a lock already."""

    def __init__(self, importances: int) -> None:
        self._importances = importances
        self._slices = [_Slice(importances) for _ in range(SLICES)]

    def note(self, importance: int, now: float, *, refused: bool, delay_seconds: float | None) -> None:
        """Somebody came. No delay is known of whoever was refused at once."""
        current = self._slice(now)
        current.arrived[importance] += 1
        current.refused[importance] += refused
        if delay_seconds is not None:
            current.delays[bisect_left(DELAY_BOUNDS, delay_seconds)] += 1

    def over(self, seconds: float, now: float) -> Figures:
        """The last so many seconds, by slices that are over: of two looks in a row each sees its own, and a burst of
        some milliseconds is not seen twice."""
        current = int(now / SLICE_SECONDS)
        oldest = current - round(seconds / SLICE_SECONDS)
        counted = [each for each in self._slices if oldest <= each.number < current]
        return Figures(
            arrived=_sums([each.arrived for each in counted], self._importances),
            refused=_sums([each.refused for each in counted], self._importances),
            queue_delay_p90_seconds=_percentile(_sums([each.delays for each in counted], len(DELAY_BOUNDS) + 1)),
        )

    def _slice(self, now: float) -> _Slice:
        number = int(now / SLICE_SECONDS)
        place = number % SLICES
        if self._slices[place].number != number:
            self._slices[place] = _Slice(self._importances)
            self._slices[place].number = number
        return self._slices[place]


def _sums(rows: list[list[int]], width: int) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True))) if rows else (0,) * width


def _percentile(delays: tuple[int, ...]) -> float:
    """The upper bound of the class in which it is; the lowest class counts as no delay."""
    wanted = sum(delays) * PERCENTILE
    place = next((place for place, below in enumerate(accumulate(delays)) if below >= wanted), 0)
    return DELAY_BOUNDS[min(place, len(DELAY_BOUNDS) - 1)] if place else 0.0
