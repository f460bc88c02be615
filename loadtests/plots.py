"""Small pictures of a run, drawn as SVG by hand: a line for each thing over time, in seconds from the opening."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from loadtests.contenders.overload.tally import GOOD_SECONDS
from loadtests.evidence import Evidence
from loadtests.figures import percentile
from loadtests.records import Record

#: Pixels of a picture, and of its edges, where the numbers stand.
WIDTH, HEIGHT, EDGE = 760, 220, 48
#: Points of a line at most: more than there are pixels shows nothing more.
POINTS_MAXIMUM = 700
#: Colours that people with any eyes can tell apart (Okabe and Ito), on white and on black.
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    name: str
    points: Points


def svg(title: str, unit: str, lines: Sequence[Line]) -> str:
    points = [point for line in lines for point in line.points] or [(0.0, 0.0)]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top = max(y for _, y in points) or 1.0
    drawn = [_polyline(line.points, colour, left, right, top) for line, colour in zip(lines, COLOURS, strict=False)]
    legend = [
        _legend(number, line.name, colour) for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False))
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
            ' font-size="12" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{EDGE}" y="16" font-weight="bold">{escape(title)}</text>',
            *_axes(left, right, top, unit),
            *drawn,
            *legend,
            "</svg>\n",
        ]
    )


def _axes(left: float, right: float, top: float, unit: str) -> list[str]:
    bottom, end = HEIGHT - EDGE / 2, WIDTH - EDGE / 2
    made = [f'<path d="M{EDGE} {EDGE / 2 + 8}V{bottom}H{end}" fill="none" stroke="#888"/>']
    made.append(f'<text x="{EDGE - 4}" y="{EDGE / 2 + 16}" text-anchor="end">{top:.3g}</text>')
    made.append(f'<text x="{EDGE - 4}" y="{bottom}" text-anchor="end">0</text>')
    made.append(f'<text x="{EDGE - 4}" y="{HEIGHT / 2}" text-anchor="end" fill="#555">{escape(unit)}</text>')
    made.append(f'<text x="{EDGE}" y="{HEIGHT - 6}">{left:.0f} s</text>')
    made.append(f'<text x="{end}" y="{HEIGHT - 6}" text-anchor="end">{right:.0f} s</text>')
    if left < 0 < right:
        x = _x(0.0, left, right)
        made.append(f'<path d="M{x:.1f} {EDGE / 2 + 8}V{bottom}" stroke="#888" stroke-dasharray="3 3"/>')
        made.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">T0</text>')
    return made


def _x(value: float, left: float, right: float) -> float:
    return EDGE + (value - left) / max(right - left, 1e-9) * (WIDTH - 1.5 * EDGE)


def _polyline(points: Points, colour: str, left: float, right: float, top: float) -> str:
    step = max(1, len(points) // POINTS_MAXIMUM)
    height = HEIGHT - EDGE - 8
    drawn = " ".join(f"{_x(x, left, right):.1f},{HEIGHT - EDGE / 2 - y / top * height:.1f}" for x, y in points[::step])
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _legend(number: int, name: str, colour: str) -> str:
    x = WIDTH - EDGE / 2 - 110 * (number + 1)
    return f'<text x="{x}" y="16" fill="{colour}">&#9644; {escape(name)}</text>'


def of_run(evidence: Evidence) -> dict[str, str]:
    """File name -> picture."""
    asked = [each for each in evidence.records if not each.is_of_the_client]
    opens_at = evidence.plan.opens_at_ms / 1000
    good = [each for each in asked if each.is_served and each.seconds <= GOOD_SECONDS]
    drawn = {
        "requests.svg": svg(
            "Requests",
            "a second",
            [
                Line("offered", _a_second(asked, opens_at)),
                Line("good", _a_second(good, opens_at)),
                Line("refused", _a_second([each for each in asked if each.is_refusal], opens_at)),
            ],
        ),
        "latency.svg": svg("Latency from the intended moment", "ms", list(_latencies(asked, opens_at))),
    }
    if evidence.samples:
        drawn["stock.svg"] = svg(
            "Stock in Redis",
            "units",
            [
                Line(name, [(sample.at_ms / 1000 - opens_at, getattr(sample, name)) for sample in evidence.samples])
                for name in ("available", "held", "sold")
            ],
        )
    return drawn


def _a_second(records: Sequence[Record], opens_at: float) -> Points:
    """How many were to be sent in each second; noughts between them, too."""
    seconds = Counter(int(each.at - opens_at // 1) for each in records)
    if not seconds:
        return []
    return [(second, seconds[second]) for second in range(min(seconds), max(seconds) + 1)]


def _latencies(records: Sequence[Record], opens_at: float) -> list[Line]:
    by_second: dict[int, list[float]] = {}
    for each in records:
        if each.is_served:
            by_second.setdefault(int(each.at - opens_at // 1), []).append(1000 * each.seconds)
    seconds = sorted(by_second)
    return [
        Line(f"p{100 * part:g}", [(second, percentile(by_second[second], part)) for second in seconds])
        for part in (0.5, 0.99)
    ]
