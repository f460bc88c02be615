"""What stays of a run: report.md with pictures, report.json, and the evidence, which can be judged again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests import plots
from loadtests.evidence import Evidence
from loadtests.verdict import EXAMPLES, Verdict, figure_lines


def write(folder: Path, evidence: Evidence, verdict: Verdict) -> None:
    for name, picture in plots.of_run(evidence).items():
        (folder / name).write_text(picture)
    (folder / "report.json").write_text(json.dumps(as_data(evidence, verdict), indent=2))
    (folder / "report.md").write_text(markdown(evidence, verdict, sorted(path.name for path in folder.glob("*.svg"))))


def as_data(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.status.name,
        "reason": verdict.reason,
        "plan": asdict(evidence.plan),
        "promises": [
            {
                "check": finding.check.name,
                "promise": finding.check.promise,
                "word": finding.word,
                "seen": finding.seen[:EXAMPLES],
                "times": len(finding.seen),
            }
            for finding in verdict.findings
        ],
        "bars": [asdict(bar) for bar in verdict.bars],
        "measures": asdict(verdict.measures),
        "notes": evidence.notes,
    }


def markdown(evidence: Evidence, verdict: Verdict, pictures: list[str]) -> str:
    plan = evidence.plan
    lines = [
        f"# {verdict.status.name}: {verdict.reason}",
        "",
        f"Shape `{plan.shape}`, {plan.users} people and {plan.bots} who cheat, {plan.quantity} units,"
        f" limit {plan.limit}, {plan.seconds:.0f} s, seed {plan.seed}.",
        "",
        "| | promise | check | what was seen |",
        "|---|---|---|---|",
    ]
    for finding in verdict.findings:
        seen = "; ".join(finding.seen[:EXAMPLES])
        lines.append(f"| {finding.word} | {finding.promise} | {finding.check.name} | {seen} |")
    lines += ["", "| bar | figure | wanted | |", "|---|---:|---:|---|"]
    lines += [
        f"| {bar.name} | {bar.figure} | {bar.bar} | {'holds' if bar.held else 'MISSED'} |" for bar in verdict.bars
    ]
    lines += ["", "```", *figure_lines(verdict.measures), "```", ""]
    lines += [f"![{name}]({name})" for name in pictures]
    lines += ["", *(f"- {note}" for note in evidence.notes)]
    return "\n".join(lines) + "\n"
