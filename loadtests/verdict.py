"""PASS, FAIL or INCONCLUSIVE, and why: the last thing that a load prints, and its exit status.

    python -m loadtests.verdict FOLDER      judges again what a run has written there

FAIL: a promise was broken, or a bar was missed while the client kept up. INCONCLUSIVE: the client itself did not keep
up, so that slow answers may be its own; a broken promise is FAIL all the same, because no client can cause one.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import takewhile
from pathlib import Path

from loadtests.checks import CHECKS, PROMISES, Check
from loadtests.evidence import Evidence
from loadtests.measures import Measures, Step, measure
from loadtests.records import BUYING

#: Milliseconds within which 99 of 100 clicks and tickets are answered, from the moment they were to be sent.
BUY_P99_MS = 300.0
#: Of the honest people who click, the part that must get an answer that decides, in percent.
BUYERS_SERVED_PERCENT = 99.0
#: Of all that was asked, the part that may meet no answer in time, or an error; refusals are answers. In percent.
LOST_PERCENT = 1.0
#: Of the rate that was asked for, the part that the client must have offered: else it is no open model.
OFFERED_SHARE = 0.9
#: Examples of a broken promise that are told; the number says how many there are.
EXAMPLES = 3


class Status(IntEnum):
    """The exit status of a load."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 3


@dataclass(frozen=True)
class Finding:
    """One check, and what it saw: nothing when the promise was kept; `judged` False when nobody could look."""

    check: Check
    seen: list[str] = field(default_factory=list)
    judged: bool = True

    @property
    def word(self) -> str:
        return "not judged" if not self.judged else "BROKEN" if self.seen else "kept"

    @property
    def promise(self) -> str:
        return f"promise {self.check.promise}, {PROMISES[self.check.promise]}"


@dataclass(frozen=True)
class Bar:
    name: str
    held: bool
    figure: str
    bar: str


@dataclass(frozen=True)
class Verdict:
    status: Status
    reason: str
    findings: list[Finding]
    bars: list[Bar]
    measures: Measures


def judge(evidence: Evidence) -> Verdict:
    findings = [_look(check, evidence) for check in CHECKS]
    measures = measure(evidence)
    bars = list(_bars(evidence, measures))
    return Verdict(*_sum_up(findings, bars, measures), findings, bars, measures)


def _look(check: Check, evidence: Evidence) -> Finding:
    if check.needs_books and evidence.books is None:
        return Finding(check, judged=False)
    return Finding(check, list(check.look(evidence)))


def _sum_up(findings: list[Finding], bars: list[Bar], measures: Measures) -> tuple[Status, str]:
    broken = [finding for finding in findings if finding.seen]
    if broken:
        return Status.FAIL, f"{broken[0].promise}: {broken[0].seen[0]}"
    if saturated := measures.saturated:
        return Status.INCONCLUSIVE, f"{saturated}: the figures are the client's; promises were kept"
    missed = [bar for bar in bars if not bar.held]
    if missed:
        return Status.FAIL, f"{missed[0].name}: {missed[0].figure}, the bar is {missed[0].bar}"
    return Status.PASS, "every promise was kept, every bar held"


def _bars(evidence: Evidence, measures: Measures) -> Iterator[Bar]:
    plan = evidence.plan
    for kind in BUYING if plan.shape != "ramp" else ():  # which climbs until it is missed
        if fate := measures.fates.get(kind):
            held = fate.waits.p99 <= BUY_P99_MS
            yield Bar(f"{kind}, p99", held, f"{fate.waits.p99:.0f} ms", f"at most {BUY_P99_MS:.0f} ms")
    if plan.shape != "ramp":
        lost = measures.lost_percent
        yield Bar("requests without an answer", lost <= LOST_PERCENT, f"{lost:.1f} %", f"at most {LOST_PERCENT:.0f} %")
    if not plan.rate:
        served = measures.buyers_served_percent
        bar = f"at least {BUYERS_SERVED_PERCENT:.0f} %"
        yield Bar("buyers who got an answer that decides", served >= BUYERS_SERVED_PERCENT, f"{served:.1f} %", bar)
        if measures.units_sold is not None and plan.users >= 2 * plan.quantity:
            sold = measures.units_sold
            yield Bar("units sold", sold == plan.quantity, str(sold), f"exactly {plan.quantity}")
    else:
        share = measures.rate_offered / measures.rate_asked
        yield Bar("offered of what was asked for", share >= OFFERED_SHARE, f"{share:.2f}", f"at least {OFFERED_SHARE}")


# --- as people read it


def text(verdict: Verdict) -> str:
    """The table of checks, then figures, then the verdict as the last line."""
    lines = [_finding_line(finding) for finding in verdict.findings]
    for finding in verdict.findings:
        lines += [f"    {finding.promise}: {seen}" for seen in finding.seen[:EXAMPLES]]
        if len(finding.seen) > EXAMPLES:
            lines.append(f"    ... and {len(finding.seen) - EXAMPLES} more")
    lines += ["", *figure_lines(verdict.measures), ""]
    lines += [f"  {'holds' if bar.held else 'MISSED':7} {bar.name}: {bar.figure} ({bar.bar})" for bar in verdict.bars]
    return "\n".join([*lines, "", f"{verdict.status.name}: {verdict.reason}"])


def _finding_line(finding: Finding) -> str:
    return f"  {finding.word:10}  {finding.check.promise}  {finding.check.name}"


def figure_lines(measures: Measures) -> Iterator[str]:
    yield "  kind        asked    good  refused  lost      p50      p99    p99.9 ms"
    for kind, fate in measures.fates.items():
        waits = fate.waits
        yield (
            f"  {kind:10} {fate.offered:6} {fate.good:7} {fate.refused:8} {fate.lost:5}"
            f" {waits.p50:8.1f} {waits.p99:8.1f} {waits.p999:8.1f}"
        )
    yield f"  offered {measures.offered_a_second:.0f}/s, well answered {measures.good_a_second:.0f}/s"
    if measures.rate_asked:
        yield f"  arrivals asked for {measures.rate_asked:.0f}/s, offered {measures.rate_offered:.0f}/s"
    yield from _step_lines(measures.steps)
    yield f"  clicks: {', '.join(f'{count} {word}' for word, count in sorted(measures.words.items()))}"
    if measures.sold_out_after_seconds is not None:
        yield f"  sold out {measures.sold_out_after_seconds:.2f} s after T0"
    recorded = measures.recorded_after
    if recorded.count:
        longest = f"p99 {recorded.p99:.0f}, longest {recorded.longest:.0f} ms"
        yield f"  recorded after the click: p50 {recorded.p50:.0f}, {longest}"
    late, busy = measures.client_late_ms, measures.client_busy_percent
    yield f"  the client: {late:.0f} ms late at its p99, {busy} % of a processor"


def _step_lines(steps: list[Step]) -> Iterator[str]:
    for step in steps:
        rate, p99, unserved = step.arrivals_a_second, step.p99_ms, step.unserved_percent
        yield f"  {rate:6.0f} arrivals/s: clicks p99 {p99:6.0f} ms, {unserved:5.1f} % not served"
    if steps:
        below = takewhile(lambda step: step.is_below_the_knee, steps)
        knee = max((step.arrivals_a_second for step in below), default=0.0)
        yield f"  the knee is above {knee:.0f} arrivals/s"


def main(folder: str) -> int:
    verdict = judge(Evidence.read(Path(folder)))
    sys.stdout.write(text(verdict) + "\n")
    return verdict.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
