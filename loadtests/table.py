"""A run as people and programs read it: one table on the terminal, the same in Markdown, and all samples in JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from loadtests.figures import Figure, Figures, Judgement

HEADER = ("what", "median", "min..max", "unit", "bar", "")
#: Columns of numbers, set to the right.
NUMBERS = (1, 2)
#: Below it a number keeps three digits, above it none after the point.
WHOLE_FROM = 100

Row = tuple[str, ...]
Judgements = Mapping[str, Sequence[Judgement]]


def text(figures: Figures, judgements: Judgements) -> str:
    """Columns of spaces; a ratio stands below its figure."""
    rows = [HEADER, *_rows(figures, judgements, indent="  ")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Row, widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column in NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def markdown(figures: Figures, judgements: Judgements) -> str:
    rule = ["---:" if column in NUMBERS else "---" for column in range(len(HEADER))]
    rows = [HEADER, rule, *_rows(figures, judgements, indent="&emsp;")]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(figures: Figures, judgements: Judgements, indent: str) -> Iterator[Row]:
    for figure in figures:
        about = list(judgements.get(figure.name, ()))
        itself = next((judgement for judgement in about if not judgement.bar.against), None)
        yield (figure.name, *_numbers(figure), *_verdict(itself))
        for judgement in about:
            if judgement.bar.against:
                yield (f"{indent}/ {judgement.bar.against}", *_numbers(judgement.measured), *_verdict(judgement))


def _numbers(figure: Figure | None) -> tuple[str, str, str]:
    if figure is None:
        return "", "", ""
    return number(figure.median), f"{number(figure.least)}..{number(figure.most)}", figure.unit


def _verdict(judgement: Judgement | None) -> tuple[str, str]:
    if judgement is None:
        return "", ""
    if not str(judgement.bar):
        return "", judgement.bar.because
    aside = "" if judgement.bar.counts else " (does not count)"
    return str(judgement.bar), f"{judgement.word}{aside}: {judgement.bar.because}"


def number(value: float) -> str:
    """Three digits that matter, thousands apart: 0.412, 41.2, 41 234."""
    if abs(value) >= WHOLE_FROM:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def as_data(figures: Figures, judgements: Judgements) -> dict[str, Any]:
    """For JSON: every sample, by round."""
    return {
        "figures": [_data(figure) for figure in figures],
        "ratios": _each(judgements, lambda judgement: bool(judgement.bar.against)),
        "limits": _each(judgements, lambda judgement: not judgement.bar.against),
    }


def _each(judgements: Judgements, wanted: Callable[[Judgement], bool]) -> list[dict[str, Any]]:
    return [_judged(judgement) for about in judgements.values() for judgement in about if wanted(judgement)]


def _judged(judgement: Judgement) -> dict[str, Any]:
    bar = judgement.bar
    measured = _data(judgement.measured) if judgement.measured else {}
    return measured | {
        "name": bar.figure,
        "against": bar.against,
        "bar": str(bar),
        "verdict": judgement.word,
        "counts": bar.counts,
        "because": bar.because,
    }


def _data(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "median": figure.median,
        "min": figure.least,
        "max": figure.most,
        "samples": figure.samples,
    }
