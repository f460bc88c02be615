"""Whether people saw what the table says, and nothing else; and whether every promise was kept meanwhile."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.drills.table import CLICKS, USUAL, Drill
from loadtests.evidence import Evidence
from loadtests.figures import percentile
from loadtests.measures import client_late_ms
from loadtests.records import Record
from loadtests.verdict import judge

#: Of those who ask for something that goes on, the part that must get it.
SERVED = 0.9
#: Of all clicks, the part that may hear another word than the table's: a machine that has other work refuses some.
UNUSUAL = 0.03


@dataclass(frozen=True)
class Result:
    drill: Drill
    misses: list[str]
    #: Words that clicks heard while it lasted.
    heard: dict[str, int]
    click_p90_ms: float
    back_seconds: float | None

    @property
    def word(self) -> str:
        return "MISS" if self.misses else "pass"


@dataclass(frozen=True)
class Blown:
    """When the blow fell and when it was over, in the server's seconds."""

    at: float
    healed: float


def result(drill: Drill, evidence: Evidence, blown: Blown) -> Result:
    honest = [each for each in evidence.records if each.role == "shopper"]
    meanwhile = [each for each in honest if blown.at <= each.sent <= blown.healed]
    clicks = [each for each in honest if each.kind in CLICKS]
    clicks_meanwhile = [each for each in meanwhile if each.kind in CLICKS]
    back = _back_after(clicks, blown)
    p90_ms = 1000 * percentile([each.done - each.sent for each in clicks_meanwhile] or [0.0], 0.9)
    misses = [
        *_not_tried(clicks_meanwhile),
        *_broken_promises(evidence),
        *_stopped(drill, meanwhile),
        *_strange_words(drill, clicks, blown),
        *_slow(drill, p90_ms, client_late_ms(evidence)),
        *_not_back(drill, back),
    ]
    heard = Counter(each.word or f"({each.status})" for each in clicks_meanwhile)
    return Result(drill, misses, dict(heard), p90_ms, back)


def _broken_promises(evidence: Evidence) -> Iterator[str]:
    for finding in judge(evidence).findings:
        if finding.seen and finding.check.promise != 7:  # whom a fault hits is not a matter of importance
            yield f"{finding.promise}: {finding.seen[0]}"


def _stopped(drill: Drill, meanwhile: list[Record]) -> Iterator[str]:
    for kind in drill.goes_on:
        asked = [each for each in meanwhile if each.kind == kind]
        served = sum(each.is_served for each in asked)
        if asked and served < SERVED * len(asked) and len(asked) - served > 1:
            yield f"{kind} did not go on: {served} of {len(asked)} were served"


def _strange_words(drill: Drill, clicks: list[Record], blown: Blown) -> Iterator[str]:
    strange = Counter[str]()
    for each in clicks:
        concerned = blown.at <= each.done and each.sent <= blown.healed + drill.back_seconds
        if each.word not in USUAL and not (concerned and each.word in drill.hears) and not _is_early(each):
            strange[each.word or f"({each.status})"] += 1
    if strange.total() > UNUSUAL * len(clicks):
        yield f"clicks heard {', '.join(f'{count} {word}' for word, count in strange.items())}"


def _is_early(record: Record) -> bool:
    """At T0 exactly, the shop's clock and Redis's may differ by the way between them."""
    return record.word == "NOT_OPEN"


def _slow(drill: Drill, p90_ms: float, client_late_ms: float) -> Iterator[str]:
    if p90_ms > drill.answers_ms + client_late_ms:
        yield f"clicks were answered within {p90_ms:.0f} ms at their p90, not within {drill.answers_ms:.0f}"


def _back_after(clicks: list[Record], blown: Blown) -> float | None:
    """Seconds from the end of the blow until units are reserved."""
    reserved = [each.done for each in clicks if each.word == "RESERVED" and each.sent >= blown.healed]
    return min(reserved) - blown.healed if reserved else None


def _not_tried(clicks_meanwhile: list[Record]) -> Iterator[str]:
    if not clicks_meanwhile:
        yield "nobody clicked meanwhile: the client was not there"


def _not_back(drill: Drill, back: float | None) -> Iterator[str]:
    if back is None:
        yield "nobody got a unit after it was over"
    elif back > drill.back_seconds:
        yield f"units were reserved again after {back:.1f} s, not within {drill.back_seconds:g}"
