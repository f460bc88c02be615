"""`make drill`, `make drill NAME=redis-hang`: break one thing after the other while people buy. Exit 1 on any miss."""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from loadtests import load, target
from loadtests.crowd import Crowd
from loadtests.drills.judging import Blown, Result, result
from loadtests.drills.proving_ground import ProvingGround, proving_ground
from loadtests.drills.table import DRILLS, Drill
from loadtests.evidence import Evidence, Witness
from loadtests.measures import client_missed_seconds
from loadtests.options import Options
from shop.local.refusal import Broken, Refusal

#: People of one drill: enough that somebody clicks in every tenth of a second.
USERS = "200"
#: Seconds from the opening to the blow, drawn: from, to. And those that clicks go on after everything must be back.
BLOW_SECONDS, AFTERWARDS_SECONDS = (1.0, 2.5), 3.0
#: Seconds before the opening, and after the last click, in which people wait, poll and pay.
BEFORE_SECONDS, END_SECONDS = 4.0, 4.0
#: Times that a drill is played at most, when the crowd came too late.
TRIES = 3
#: Seconds for which clicks go on at most: what comes back later than that is waited for without them.
CLICKS_MAXIMUM = 24.0


@dataclass(frozen=True)
class Timing:
    """Of one drill, in seconds from the opening."""

    blow: float
    healed: float
    clicks_end: float

    @classmethod
    def of(cls, drill: Drill, seed: int) -> "Timing":
        blow = Random(f"{seed}/{drill.name}").uniform(*BLOW_SECONDS)
        healed = blow + drill.lasts_seconds
        return cls(blow, healed, min(CLICKS_MAXIMUM, healed + min(drill.back_seconds, 15) + AFTERWARDS_SECONDS))


def main(environ: Mapping[str, str] = os.environ) -> int:
    try:
        chosen = _chosen(environ.get("NAME", ""))
        options = Options.read({"USERS": USERS, **environ, "SHAPE": "spike", "HOST": ""})
        started = time.monotonic()
        with proving_ground(load.say, options.shop_from) as ground:
            results = [drill_once(ground, drill, options) for drill in chosen]
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 2
    except Broken as broken:
        sys.stderr.write(f"{broken}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return tell(results, options, time.monotonic() - started)


def _chosen(names: str) -> Sequence[Drill]:
    """Raises Refusal for a name that no drill has."""
    known = {drill.name: drill for drill in DRILLS}
    for name in names.split():
        if name not in known:
            raise Refusal(f"NAME must be some of {', '.join(known)}, not {name!r}")
    return [known[name] for name in names.split()] or DRILLS


def drill_once(ground: ProvingGround, drill: Drill, options: Options) -> Result:
    """One sale, one crowd, one blow; again when the crowd itself came too late to see it."""
    timing = Timing.of(drill, options.seed)
    seconds = BEFORE_SECONDS + timing.clicks_end + END_SECONDS
    options = replace(
        options,
        seconds=seconds,
        quantity=options.users,
        spread_seconds=timing.clicks_end,
        devices_off_ms=1000 * drill.devices_off_seconds,
        report=options.report.parent / "drills" / drill.name,
    )
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            ready = load.made_stage(options, ground.shop, Path(folder))
            evidence, blown = _play(ground, drill, ready, timing, options)
        if not client_missed_seconds(evidence):
            break
    evidence.write(options.report)
    judged = result(drill, evidence, blown)
    load.say(f"{judged.word}  {drill.name:20} {'; '.join(judged.misses) or drill.promise}")
    return judged


def _play(
    ground: ProvingGround, drill: Drill, ready: load.Stage, timing: Timing, options: Options
) -> tuple[Evidence, Blown]:
    options.report.mkdir(parents=True, exist_ok=True)
    plan, moments = ready.plan, []
    witness = Witness(ground.direct, plan.offer, ground.shop.url)

    def strike() -> None:
        opens_at = plan.opens_at_ms / 1000 - plan.ahead_ms / 1000
        time.sleep(max(0.0, opens_at + timing.blow - time.time()))
        moments.append(time.time() + plan.ahead_ms / 1000)
        drill.blow.strike(ground, witness)
        time.sleep(max(0.0, opens_at + timing.healed - time.time()))
        drill.blow.heal(ground)
        moments.append(time.time() + plan.ahead_ms / 1000)

    striker = threading.Thread(target=strike)
    with witness, Crowd(plan, ready.cookies, options.report) as crowd:
        striker.start()
        try:
            crowd.watch(lambda line: None)
        finally:
            striker.join()
        notes = [] if target.wait(witness.at_rest, plan.hold_seconds + load.REST_SECONDS) else ["not at rest"]
        books = witness.books()
        books.findings = ground.shop.verify(plan.sale)
    return Evidence(plan, crowd.records(), witness.samples, books, notes, witness.levels), Blown(*moments)


def tell(results: Sequence[Result], options: Options, seconds: float) -> int:
    folder = options.report.parent / "drills"
    lines = [
        "| drill | | what shoppers heard meanwhile | clicks, p90 | back after | misses |",
        "|---|---|---|---:|---:|---|",
    ]
    for each in results:
        heard = ", ".join(f"{count} {word}" for word, count in sorted(each.heard.items()))
        back = "-" if each.back_seconds is None else f"{each.back_seconds:.1f} s"
        misses = "; ".join(each.misses)
        lines.append(f"| {each.drill.name} | {each.word} | {heard} | {each.click_p90_ms:.0f} ms | {back} | {misses} |")
    missed = [each.drill.name for each in results if each.misses]
    lines += ["", f"seed {options.seed}, {seconds:.0f} s"]
    (folder / "drills.md").write_text("\n".join(lines) + "\n")
    (folder / "drills.json").write_text(json.dumps([_data(each) for each in results], indent=2))
    load.say("\n".join(["", *lines, f"report: {folder / 'drills.md'}", ""]))
    load.say(f"FAIL: {', '.join(missed)}" if missed else f"PASS: {len(results)} drills")
    return 1 if missed else 0


def _data(each: Result) -> dict[str, object]:
    return {
        "drill": each.drill.name,
        "word": each.word,
        "promise": each.drill.promise,
        "misses": each.misses,
        "heard": each.heard,
        "click_p90_ms": each.click_p90_ms,
        "back_seconds": each.back_seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
