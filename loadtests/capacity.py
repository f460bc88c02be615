"""How many cores and shards carry a mix of requests, by what `make bench` measured of each tier.

    python -m loadtests.bench --json bench.json
    python -m loadtests.capacity bench.json 200000 1000000

    cores of a tier = requests a second x sum of (share of a kind x seconds of processor for one) / BUSY

nginx sees every request; it answers pages and states by itself and passes the others on to the express lane. A hold
takes time of the one shard on which its offer lives, and of a worker that writes it down.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

#: Of all requests, in the minute in which a sale opens: whoever waits looks, some click, few get something.
MIX: Mapping[str, float] = {
    "page": 0.20,
    "state": 0.50,
    "ticket": 0.05,
    "RESERVED": 0.02,
    "SOLD_OUT": 0.08,
    "poll": 0.15,
}
#: Part of a core that may be taken: what is fuller than that has queues.
BUSY = 0.6
#: Kind -> the figures of the bench that say what one costs nginx, and what it costs the express lane.
AT_NGINX: Mapping[str, str] = {
    "page": "page by nginx",
    "state": "state by nginx",
    **dict.fromkeys(("ticket", "RESERVED", "SOLD_OUT", "poll"), "poll by nginx"),
}
IN_PYTHON: Mapping[str, str] = {
    "ticket": "ticket",
    "RESERVED": "buy RESERVED",
    "SOLD_OUT": "buy SOLD_OUT",
    "poll": "status poll",
}
#: What one shard holds a second, in batches as busy processes send them; what one worker records.
HOLDS, RECORDED = "reserve.lua 64", "drain"

Figures = Mapping[str, float]


class NotMeasured(Exception):
    """The figure that is missing in the file."""


def needs(figures: Figures, rate: float) -> dict[str, float]:
    """Of each tier how many cores, shards or workers are busy, so that none is fuller than BUSY."""
    per_second = {kind: rate * share for kind, share in MIX.items()}
    return {
        "cores for nginx": _cores(figures, per_second, AT_NGINX),
        "cores for the express lane": _cores(figures, per_second, IN_PYTHON),
        "Redis shards, as many offers or more": per_second["RESERVED"] / _figure(figures, HOLDS) / BUSY,
        "workers that record": per_second["RESERVED"] / _figure(figures, RECORDED) / BUSY,
        "Gbit/s to clients": _bits(figures, per_second) / 1e9,
    }


def _cores(figures: Figures, per_second: Mapping[str, float], costs: Mapping[str, str]) -> float:
    spent_us = (per_second[kind] * _figure(figures, f"{name}: processor") for kind, name in costs.items())
    return sum(spent_us) / 1e6 / BUSY


def _bits(figures: Figures, per_second: Mapping[str, float]) -> float:
    """Of pages and states; the rest is small."""
    return sum(8 * per_second[kind] * _figure(figures, f"{kind} by nginx: an answer") for kind in ("page", "state"))


def _figure(figures: Figures, name: str) -> float:
    try:
        return figures[name]
    except KeyError:
        raise NotMeasured(name) from None


def page(figures: Figures, rates: Sequence[float]) -> Iterator[str]:
    """As Markdown: what one request costs, what each rate needs, and what is full first."""
    yield "| one request | nginx | express lane |"
    yield "|---|---:|---:|"
    for kind, share in MIX.items():
        python = f"{_figure(figures, f'{IN_PYTHON[kind]}: processor'):.1f} us" if kind in IN_PYTHON else ""
        yield f"| {kind}, {share:.0%} | {_figure(figures, f'{AT_NGINX[kind]}: processor'):.1f} us | {python} |"
    yield ""
    yield f"| needed for | {' | '.join(f'{rate:,.0f}/s'.replace(',', ' ') for rate in rates)} |"
    yield f"|---|{'---:|' * len(rates)}"
    columns = [needs(figures, rate) for rate in rates]
    for name in columns[0]:
        yield f"| {name} | {' | '.join(f'{column[name]:.1f}' for column in columns)} |"
    yield ""
    yield f"One offer cannot be split: it sells {BUSY * _figure(figures, HOLDS):,.0f} units a second at most."


def main(arguments: Sequence[str]) -> int:
    figures = {each["name"]: each["median"] for each in json.loads(Path(arguments[0]).read_text())["figures"]}
    try:
        lines = list(page(figures, [float(rate) for rate in arguments[1:]]))
    except NotMeasured as missing:
        sys.stderr.write(f"not measured: {missing}\n")
        return 2
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
