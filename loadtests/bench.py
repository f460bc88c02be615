"""`make bench`: how fast the parts are, each beside a baseline of the same run on the same servers.

options -> servers -> warm-up -> rounds, in each of them every contender once -> table. Exit status 1: a bar was
missed, or something broke; 2: change something first. A part can be measured alone: `python -m loadtests.bench cache`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import redis
from django.conf import settings
from django.db import connection

from loadtests import table
from loadtests.catalogue import BARS, CONTENDERS, PARTS, Contender, Entry
from loadtests.figures import UNKNOWN, Figures, judge_all
from loadtests.house import House, open_house
from shop.local.programs import NGINX, WRK, missing
from shop.local.refusal import Broken, Refusal

#: Programs that some contenders need.
BESIDES = (WRK, NGINX)
#: Seconds of the warm-up of each contender: connections, scripts and caches are there, and the tables were used.
WARM_UP_SECONDS = 0.3
#: Writes to the disk that are timed to say how fast it is, of a page each.
DISK_WRITES, PAGE_BYTES = 200, 4096


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = _options().parse_args(arguments)
        chosen = _chosen(options.part, options.only, with_long=options.all)
        with open_house(say, besides=BESIDES) as house:
            chosen = _possible(house, chosen)
            machine = _machine(house)
            figures = _measure(house, chosen, options.rounds, options.seconds)
            machine["load at the end"] = _load()
    except Refusal as refusal:
        _complain(refusal)
        return 2
    except Broken as broken:
        _complain(broken)
        return 1
    except KeyboardInterrupt:
        _complain("stopped")
        return 130
    return report(figures, machine, options)


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(error: object) -> None:
    sys.stderr.write(f"{error}\n")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=PARTS, help="measure this part alone")
    parser.add_argument("--all", action="store_true", help="also what takes minutes: overload, and a million requests")
    parser.add_argument("--rounds", type=_positive(int), default=3, help="measurements of each contender (3)")
    parser.add_argument("--seconds", type=_positive(float), default=2.0, help="of one measurement, about (2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"contenders: {', '.join(CONTENDERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--report-only", action="store_true", help="exit status 0 also when a bar is missed")
    return parser


def _positive(kind: type[int] | type[float]) -> Any:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    read.__name__ = f"positive {kind.__name__}"  # argparse says "invalid positive int value: '0'"
    return read


def _chosen(part: str | None, names: Sequence[str] | None, *, with_long: bool = True) -> dict[str, Entry]:
    """The contenders of this part and of these names in the order of the catalogue; None stands for all, or for all
    that do not take minutes.

    Raises Refusal for an unknown one."""
    there = CONTENDERS if part is None else PARTS[part]
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise Refusal(f"no such contender: {', '.join(unknown)}; there are {', '.join(there)}")
    if names is not None:
        return {name: entry for name, entry in there.items() if name in names}
    return {name: entry for name, entry in there.items() if part or with_long or not entry.long}


def _possible(house: House, chosen: dict[str, Entry]) -> dict[str, Entry]:
    """Without those that need a program which is not to be had: a line says so. Raises Refusal when none is left."""
    for kind in BESIDES:
        lost = [name for name, entry in chosen.items() if kind.title in entry.programs and not house.has(kind.title)]
        if lost:
            chosen = {name: entry for name, entry in chosen.items() if name not in lost}
            say(f"{missing(kind, os.environ)}. Left out: {', '.join(lost)}")
    if not chosen:
        raise Refusal("nothing is left to measure")
    return chosen


def _machine(house: House) -> dict[str, str]:
    """What a reader has to know of where this ran."""
    info = house.redis.info("server")
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        [postgresql] = cursor.fetchone()
    return {
        "processors": str(os.cpu_count()),
        "load": _load(),
        "fdatasync": f"{_disk_seconds() * 1_000_000:.0f} us",
        "Python": platform.python_version(),
        "redis-py": redis.__version__,
        "Redis": str(info.get("valkey_version") or info["redis_version"]),
        "fsync": str(house.redis.config_get("appendfsync")["appendfsync"]),
        "PostgreSQL": str(postgresql).split()[0],
    }


def _load() -> str:
    """Of the last minute. More than nothing before the start: somebody else is at work, and the spread will show it."""
    return f"{os.getloadavg()[0]:.1f}"


def _disk_seconds() -> float:
    """The median time in which a page is safely on the disk where the servers' data are."""
    times = []
    with tempfile.TemporaryFile(dir=settings.STATE) as file:
        for _ in range(DISK_WRITES):
            os.write(file.fileno(), bytes(PAGE_BYTES))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times)


def _measure(house: House, chosen: dict[str, Entry], rounds: int, seconds: float) -> Figures:
    """Every contender in turn, round after round, so that a machine that slows down slows all of them."""
    figures = Figures()
    contenders = {name: entry.load(house) for name, entry in chosen.items()}
    for name, contender in contenders.items():
        if not chosen[name].once and not chosen[name].anew:
            _one(house, name, contender, min(seconds, WARM_UP_SECONDS), "warm-up")
    for number in range(1, rounds + 1):
        for name, contender in contenders.items():
            if number == 1 or not chosen[name].once:
                figures.add(name, _one(house, name, contender, seconds, f"round {number}"))
    return figures


def _one(house: House, name: str, contender: Contender, seconds: float, when: str) -> list[Any]:
    house.clean()
    samples = contender.measure(seconds)
    values = ", ".join(f"{sample.part or ''} {table.number(sample.value)} {sample.unit}".strip() for sample in samples)
    say(f"{when}  {name:20}  {values}")
    return samples


def report(figures: Figures, machine: dict[str, str], options: argparse.Namespace) -> int:
    """Print the table, write the files that were asked for; answers the exit status."""
    judgements = judge_all(BARS, figures)
    say(f"\n{', '.join(f'{name} {value}' for name, value in machine.items())}")
    say(f"\n{table.text(figures, judgements)}")
    if options.markdown:
        options.markdown.write_text(f"{table.markdown(figures, judgements)}\n")
    if options.json:
        ran = {"machine": machine, "rounds": options.rounds, "seconds": options.seconds}
        options.json.write_text(json.dumps(ran | table.as_data(figures, judgements), indent=2) + "\n")

    judged = [judgement for about in judgements.values() for judgement in about if str(judgement.bar)]
    missed = [judgement for judgement in judged if judgement.fails_the_run]
    left_out = sum(judgement.word == UNKNOWN for judgement in judged)
    say(f"\n{len(missed)} bars missed, {left_out} not measured")
    return 1 if missed and not options.report_only else 0


if __name__ == "__main__":
    sys.exit(main())
