"""How it went, in numbers: what was offered, what came of it, and how long it took, from the records alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from loadtests.contenders.overload.tally import GOOD_SECONDS
from loadtests.evidence import Evidence, Sample
from loadtests.figures import percentile
from loadtests.plan import Plan
from loadtests.records import BUYING, METRONOME, PROCESSOR, Record
from loadtests.shapes import RAMP_STEPS, arrivals_asked

#: Milliseconds by which the client's metronome may be late, at its 99th percentile in the seconds that count. Beyond
#: it, a good part of the 300 ms that a buyer may wait are the client's own.
LATE_MS = 60.0
#: Percent of a processor above which a process of the client has no time left.
BUSY_PERCENT = 95
#: Beyond either, a step of a ramp is above the knee.
KNEE_P99_MS, KNEE_UNSERVED_PERCENT = 300.0, 1.0
#: Seconds after the opening in which the client must keep up: the spike itself, and what it leaves in the queue.
SPIKE_SECONDS = 3.0


@dataclass(frozen=True)
class Waits:
    """Milliseconds from the moment at which something was to be sent, of those that were served."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Waits":
        sorted_ms = sorted(1000 * each for each in seconds)
        if not sorted_ms:
            return cls()
        parts = [percentile(sorted_ms, part) for part in (0.5, 0.99, 0.999)]
        return cls(len(sorted_ms), *(round(each, 1) for each in parts), round(sorted_ms[-1], 1))


@dataclass(frozen=True)
class Fate:
    """What became of the requests of one kind."""

    offered: int
    #: Served within half a second of the moment at which it was to be sent.
    good: int
    refused: int
    #: No answer, or one that blames the shop: 500, 502, 503 without a word that says what to do.
    lost: int
    waits: Waits

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Fate":
        served = [each for each in records if each.is_served]
        refused = sum(each.is_refusal for each in records)
        return cls(
            len(records),
            sum(each.seconds <= GOOD_SECONDS for each in served),
            refused,
            len(records) - len(served) - refused,
            Waits.of(each.seconds for each in served),
        )


@dataclass(frozen=True)
class Step:
    """One step of a ramp."""

    arrivals_a_second: float
    #: Of clicks and tickets.
    p99_ms: float
    #: Of all that was asked, what was refused or lost.
    unserved_percent: float

    @property
    def is_below_the_knee(self) -> bool:
        return self.p99_ms <= KNEE_P99_MS and self.unserved_percent <= KNEE_UNSERVED_PERCENT


@dataclass
class Measures:
    fates: dict[str, Fate]
    #: Requests a second, to be sent and well answered, over the whole run.
    offered_a_second: float
    good_a_second: float
    #: Arrivals a second that were asked for, and that came; 0 where people wait for the opening.
    rate_asked: float
    rate_offered: float
    buyers_served_percent: float
    #: From the opening until nothing was left for the first time.
    sold_out_after_seconds: float | None
    units_sold: int | None
    #: Milliseconds from the click to the committed order, by the stores' clocks.
    recorded_after: Waits
    words: dict[str, int] = field(default_factory=dict)
    client_late_ms: float = 0.0
    client_busy_percent: int = 0
    #: Of a ramp, in order.
    steps: list[Step] = field(default_factory=list)
    #: Seconds of the spike that were over when the client had started.
    client_missed_seconds: float = 0.0

    @property
    def lost_percent(self) -> float:
        """Of everything that was asked."""
        asked = sum(fate.offered for fate in self.fates.values())
        return 100 * sum(fate.lost for fate in self.fates.values()) / max(1, asked)

    @property
    def saturated(self) -> str | None:
        """Why the figures are the client's and not the shop's; None when they are the shop's."""
        if self.client_missed_seconds > 0:
            return f"the client was there only {self.client_missed_seconds:.1f} s after the opening"
        if self.client_late_ms > LATE_MS:
            return f"the client was {self.client_late_ms:.0f} ms late at its p99 (at most {LATE_MS:.0f})"
        if self.client_busy_percent > BUSY_PERCENT:
            return f"a process of the client took {self.client_busy_percent} % of a processor"
        return None


def measure(evidence: Evidence) -> Measures:
    plan = evidence.plan
    asked = [each for each in evidence.records if not each.is_of_the_client]
    by_kind: dict[str, list[Record]] = defaultdict(list)
    for each in asked:
        by_kind[each.kind].append(each)
    fates = {kind: Fate.of(records) for kind, records in sorted(by_kind.items())}
    seconds = max(plan.seconds, 1e-3)
    return Measures(
        fates=fates,
        offered_a_second=len(asked) / seconds,
        good_a_second=sum(fate.good for fate in fates.values()) / seconds,
        rate_asked=arrivals_asked(plan) / seconds if plan.rate else 0.0,
        rate_offered=_arrivals(asked) / seconds,
        buyers_served_percent=_buyers_served(asked),
        sold_out_after_seconds=sold_out_after(plan.opens_at_ms, evidence.samples),
        units_sold=evidence.books.sold if evidence.books else None,
        recorded_after=_recorded_after(evidence),
        words=dict(Counter(each.word or str(each.status) for each in asked if each.kind == "buy")),
        client_late_ms=client_late_ms(evidence),
        client_missed_seconds=client_missed_seconds(evidence),
        steps=list(_steps(plan, asked)) if plan.shape == "ramp" else [],
        client_busy_percent=max((each.status for each in evidence.records if each.kind == PROCESSOR), default=0),
    )


def _steps(plan: Plan, asked: Sequence[Record]) -> Iterator[Step]:
    length = plan.seconds / RAMP_STEPS
    for number in range(RAMP_STEPS):
        begin = plan.begins_at_ms / 1000 + number * length
        those = [each for each in asked if begin <= each.at < begin + length]
        served = [each for each in those if each.is_served]
        waits = Waits.of(each.seconds for each in served if each.kind in BUYING)
        unserved = 100 * (len(those) - len(served)) / max(1, len(those))
        yield Step(_arrivals(those) / length, waits.p99, unserved)


def _arrivals(asked: Sequence[Record]) -> int:
    """People who came: each begins with the page, or is one request of a mix."""
    return sum(each.kind == "page" or each.role == "arrival" for each in asked)


def _buyers_served(asked: Sequence[Record]) -> float:
    """Of the honest people who clicked, those who got an answer that decides; in percent."""
    tried = {each.who for each in asked if each.kind in BUYING and each.role == "shopper"}
    served = {each.who for each in asked if each.kind in BUYING and each.role == "shopper" and each.is_served}
    return 100 * len(served) / len(tried) if tried else 100.0


def sold_out_after(opens_at_ms: int, samples: Sequence[Sample] | None) -> float | None:
    for sample in samples or ():
        if sample.at_ms >= opens_at_ms and sample.available == 0:
            return (sample.at_ms - opens_at_ms) / 1000
    return None


def _recorded_after(evidence: Evidence) -> Waits:
    rows = evidence.books.reservations.values() if evidence.books else ()
    return Waits.of((row.placed_at_ms - row.reserved_at_ms) / 1000 for row in rows)


def client_missed_seconds(evidence: Evidence) -> float:
    """Of a herd's opening, what was over when the client had started."""
    began = min((each.at for each in evidence.records if each.kind == METRONOME), default=0.0)
    return 0.0 if evidence.plan.rate else max(0.0, began - evidence.plan.opens_at_ms / 1000)


def client_late_ms(evidence: Evidence) -> float:
    """How late the client's metronome was, at its p99; with a herd, in the seconds after the opening, which count."""
    beats = [each for each in evidence.records if each.kind == METRONOME]
    if not evidence.plan.rate:
        begin = evidence.plan.opens_at_ms / 1000
        end = begin + evidence.plan.spread_seconds + SPIKE_SECONDS
        beats = [each for each in beats if begin <= each.at <= end] or beats
    late = sorted(1000 * (each.sent - each.at) for each in beats)
    return percentile(late, 0.99) if late else 0.0
