"""What was measured, and whether it is enough: medians, ratios between contenders of the same round, and bars."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

#: What a bar answers.
HOLDS, MISSES, UNKNOWN = "holds", "misses", "not measured"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `part` tells apart what a contender measures at the same time."""

    value: float
    unit: str
    part: str = ""


def percentile(values: Collection[float], part: float) -> float:
    """The least value that this part of the values does not exceed: 0.99 finds the place of the slow ones."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


@dataclass(slots=True)
class Figure:
    """All measurements of one thing, in the order of the rounds."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    @property
    def most(self) -> float:
        return max(self.samples)


class Figures:
    """The figures of a run by name, in the order of their first measurement."""

    def __init__(self) -> None:
        self._by_name: dict[str, Figure] = {}

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Figure | None:
        return self._by_name.get(name)

    def add(self, contender: str, samples: Iterable[Sample]) -> None:
        for sample in samples:
            name = f"{contender}: {sample.part}" if sample.part else contender
            self._by_name.setdefault(name, Figure(name, sample.unit)).samples.append(sample.value)


@dataclass(frozen=True, slots=True)
class Bar:
    """What the median of a figure must reach, or of its ratio to the figure `against`.

    One that does not count is printed and has no say in the exit status.
    """

    figure: str
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    counts: bool = True
    because: str = ""

    def __str__(self) -> str:
        words = [f">= {self.at_least:g}"] if self.at_least is not None else []
        words += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        return " and ".join(words)


@dataclass(frozen=True, slots=True)
class Judgement:
    bar: Bar
    measured: Figure | None
    word: str

    @property
    def fails_the_run(self) -> bool:
        return self.bar.counts and self.word == MISSES


def judge(bar: Bar, figures: Figures) -> Judgement:
    """What the bar says to this run; `not measured` when the figure or its baseline was left out."""
    measured = _measured(bar, figures)
    if measured is None:
        return Judgement(bar, None, UNKNOWN)
    reached = bar.at_least is None or measured.median >= bar.at_least
    reached = reached and (bar.at_most is None or measured.median <= bar.at_most)
    return Judgement(bar, measured, HOLDS if reached else MISSES)


def _measured(bar: Bar, figures: Figures) -> Figure | None:
    figure = figures.get(bar.figure)
    if figure is None or not bar.against:
        return figure
    baseline = figures.get(bar.against)
    return ratio(figure, baseline) if baseline else None


def ratio(figure: Figure, baseline: Figure) -> Figure:
    """Round by round, because a machine's speed drifts: both of a pair were measured within seconds."""
    pairs = zip(figure.samples, baseline.samples, strict=True)
    return Figure(f"/ {baseline.name}", "x", [ours / theirs for ours, theirs in pairs])


def judge_all(bars: Iterable[Bar], figures: Figures) -> Mapping[str, list[Judgement]]:
    """The judgements by the name of the figure that each is about."""
    judgements: dict[str, list[Judgement]] = {}
    for bar in bars:
        judgements.setdefault(bar.figure, []).append(judge(bar, figures))
    return judgements
