"""`make load SHAPE=overload`: what is left of a peak at 0.8, 2, 5 and 10 times of it, with admission and without.

The server is the reference of the bench: a view of 5 ms of Python and 10 ms of waiting behind the shop's own waiting
room, alone on a processor. First what it can; then Locust's sources offer multiples of that, whatever becomes of them.
`possible` is what refusals leave, `(1 - k r/s) / (1 - r/s)`: loadtests/README.md explains it. Last, ten times the peak
for three seconds, and how long the queue still is a second later.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from loadtests.contenders.overload.goodput import SPIKE, SPIKE_OVER_SECONDS
from loadtests.contenders.overload.load import Kind
from loadtests.contenders.overload.prices import Prices, bound, price_of_a_refusal, prices
from loadtests.contenders.overload.scenes import BUYERS, SCENES, Scene
from loadtests.contenders.overload.serving import Server, served
from loadtests.contenders.overload.tally import GOOD_SECONDS
from loadtests.crowd import Crowd
from loadtests.evidence import Evidence
from loadtests.house import House, open_house
from loadtests.measures import Waits, measure
from loadtests.options import Options
from loadtests.plan import Plan
from loadtests.records import Record
from loadtests.shapes import AROUND_SECONDS, BURST_SECONDS
from loadtests.verdict import Status

#: Multiples of the peak that are offered.
CALM, OVERLOADS = 0.8, (2.0, 5.0, 10.0)
#: Seconds of a window at most: what the issue asks for. And those in which peak and prices are measured.
WINDOW_SECONDS, PRICE_SECONDS = 30.0, 5.0
#: Of what is possible, and of buyers, the part that must be reached while buyers alone fit; p99 of the admitted.
REACHED, BUYERS_SERVED, ADMITTED_MS = 0.9, 0.99, 300.0
#: Of what refusals leave, the part that buyers alone may need to be sure of it.
BUYERS_FIT = 0.9
#: Milliseconds that a queue may be long when a burst has been over for SPIKE_OVER_SECONDS.
QUEUE_MS = 100.0
#: Seconds of arrivals that are counted together to find out when a burst was over, and part of its rate that belongs
#: to one.
SLICE_SECONDS, BURST_SHARE = 0.25, 0.3


@dataclass(frozen=True)
class Window:
    """One multiple, offered to one server."""

    times: float
    admission: bool
    offered: float
    good: float
    #: Of the peak: what was reached, and what can be.
    part: float
    possible: float
    buyers: float
    buyers_fit: bool
    admitted_p99_ms: float
    refused_p99_ms: float
    client: str | None

    @property
    def misses(self) -> list[str]:
        if not self.admission or self.client:
            return []
        checks = (
            (self.part >= REACHED * self.possible, "goodput"),
            (self.buyers >= BUYERS_SERVED or not self.buyers_fit, "buyers"),
            (self.admitted_p99_ms <= ADMITTED_MS, "p99"),
        )
        return [name for held, name in checks if not held]


@dataclass(frozen=True)
class Burst:
    """A few seconds of far too much, offered to a server with admission, and the wait of those who come afterwards."""

    queue_ms: float
    client: str | None

    @property
    def holds(self) -> bool:
        return self.queue_ms <= QUEUE_MS

    def __str__(self) -> str:
        word = "client saturated" if self.client else "holds" if self.holds else "misses"
        return (
            f"{SPIKE_OVER_SECONDS:g} s after {BURST_SECONDS:g} s of {SPIKE:g}x the queue is {self.queue_ms:.0f} ms long"
            f" (at most {QUEUE_MS:.0f}): {word}\n"
        )


def main(options: Options, say: Callable[[str], object]) -> int:
    """Returns the exit status, after the table."""
    options.report.mkdir(parents=True, exist_ok=True)
    seconds = min(options.seconds, WINDOW_SECONDS)
    with open_house(lambda line: None) as house:
        scene = SCENES["reference"](house)
        known, refusal = _priced(house, scene)
        say(f"peak {known.peak:.0f} answers/s; a refusal costs {100 * refusal:.2f} % of an answer")
        windows = list(_windows(house, scene, known, refusal, seconds, options, say))
        burst = _burst(house, scene, SPIKE * known.peak, options)
    table = f"{markdown(windows)}\n{burst}"
    (options.report / "overload.md").write_text(table)
    told = {"windows": [asdict(each) for each in windows], "burst": asdict(burst)}
    (options.report / "overload.json").write_text(json.dumps(told, indent=2))
    status, reason = verdict(windows, burst)
    say("\n".join([table, f"report: {options.report / 'overload.md'}", f"{status.name}: {reason}"]))
    return status


def verdict(windows: Sequence[Window], burst: Burst) -> tuple[Status, str]:
    missed = [f"{each.times:g}x: {', '.join(each.misses)}" for each in windows if each.misses]
    missed += [] if burst.holds or burst.client else ["the queue after a burst"]
    saturated = [f"{each.times:g}x: {each.client}" for each in windows if each.client]
    saturated += [f"the burst: {burst.client}"] if burst.client else []
    if missed:
        return Status.FAIL, "; ".join(missed)
    if saturated:
        return Status.INCONCLUSIVE, saturated[0]
    return Status.PASS, "with admission, what is possible was reached at every multiple"


def _priced(house: House, scene: Scene) -> tuple[Prices, float]:
    """What answers cost, and a refusal, as a part of an answer."""
    with served(house, scene.without, scene.kinds) as server:
        known = prices(server, scene, PRICE_SECONDS)
    with served(house, scene.refusing) as server:
        return known, price_of_a_refusal(server, scene, PRICE_SECONDS) / known.answer


def _windows(
    house: House,
    scene: Scene,
    known: Prices,
    refusal: float,
    seconds: float,
    options: Options,
    say: Callable[[str], object],
) -> Iterator[Window]:
    for admission, target in ((True, scene.within), (False, scene.without)):
        for times in (CALM, *OVERLOADS):
            with served(house, target, scene.kinds) as server:  # a new one: what queued before does not count
                asked = _offer(server, scene.kinds, "mix", times * known.peak, seconds, options)
            buyers_need = known.part_of_processor(times, BUYERS, _share(scene.kinds, BUYERS))
            made = _window(times, admission, asked, seconds, known.peak, refusal, buyers_need)
            say(
                f"  {times:4g}x {'with' if admission else 'without':8} good {made.good:6.0f}/s of {made.offered:6.0f}/s"
            )
            yield made


def _burst(house: House, scene: Scene, rate: float, options: Options) -> Burst:
    seconds = AROUND_SECONDS + BURST_SECONDS + AROUND_SECONDS
    with served(house, scene.within, scene.kinds) as server:
        return burst_of(_offer(server, scene.kinds, "burst", rate, seconds, options), rate)


def burst_of(asked: Evidence, rate: float) -> Burst:
    """Whoever is served at once takes as long as before the burst; what is longer is the queue.

    Raises RuntimeError when there was no burst.
    """
    records = [each for each in asked.records if not each.is_of_the_client]
    slices = Counter(int(each.at / SLICE_SECONDS) for each in records)
    full = [number for number, count in slices.items() if count >= BURST_SHARE * rate * SLICE_SECONDS]
    if not full:
        raise RuntimeError(f"there was no burst: {rate:.0f} requests a second were not reached")
    began, ended = min(full) * SLICE_SECONDS, (max(full) + 1) * SLICE_SECONDS
    before = Waits.of(each.seconds for each in records if each.is_served and each.at < began)
    after = Waits.of(each.seconds for each in records if each.is_served and each.at >= ended + SPIKE_OVER_SECONDS)
    return Burst(max(0.0, after.p99 - before.p50), measure(asked).saturated)


def _share(kinds: Sequence[Kind], importance: int) -> float:
    return sum(kind.share for kind in kinds if kind.importance == importance)


def _offer(
    server: Server, kinds: Sequence[Kind], shape: str, rate: float, seconds: float, options: Options
) -> Evidence:
    """What Locust recorded that offered so many requests a second."""
    now_ms = round(time.time() * 1000)
    plan = Plan(
        shape=shape,
        host=f"http://127.0.0.1:{server.port}",
        sale="",
        offer=0,
        quantity=0,
        limit=0,
        hold_seconds=0,
        begins_at_ms=now_ms,
        opens_at_ms=now_ms,
        ends_at_ms=now_ms + round(seconds * 1000),
        users=1,
        bots=0,
        seed=options.seed,
        rate=rate,
    )
    cookies = options.report / "requests.json"
    cookies.write_text(json.dumps([asdict(kind) for kind in kinds]))
    with Crowd(plan, cookies, options.report, options.processes) as crowd:
        crowd.watch(lambda line: None)
        return Evidence(crowd.plan(), crowd.records())


def _window(
    times: float, admission: bool, asked: Evidence, seconds: float, peak: float, refusal: float, buyers_need: float
) -> Window:
    records = [each for each in asked.records if not each.is_of_the_client]
    good = [each for each in records if _is_good(each)]
    buyers = [each for each in records if each.kind == str(BUYERS)]
    possible = bound(len(records) / seconds / peak, refusal)
    return Window(
        times,
        admission,
        offered=len(records) / seconds,
        good=len(good) / seconds,
        part=len(good) / seconds / peak,
        possible=possible,
        buyers=sum(map(_is_good, buyers)) / max(1, len(buyers)),
        buyers_fit=buyers_need <= BUYERS_FIT * possible,
        admitted_p99_ms=Waits.of(each.seconds for each in records if each.is_served).p99,
        refused_p99_ms=Waits.of(each.seconds for each in records if each.is_refusal).p99,
        client=measure(asked).saturated,
    )


def _is_good(record: Record) -> bool:
    return record.is_served and record.seconds <= GOOD_SECONDS


def markdown(windows: Sequence[Window]) -> str:
    lines = [
        "| offered | admission | good/s | of peak | possible | buyers | p99 admitted | p99 refused | |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for each in windows:
        word = "client saturated" if each.client else ", ".join(each.misses) or ("holds" if each.admission else "")
        lines.append(
            f"| {each.times:g}x, {each.offered:.0f}/s | {'with' if each.admission else 'without'} | {each.good:.0f} |"
            f" {each.part:.2f} | {each.possible:.2f} | {100 * each.buyers:.1f} % | {each.admitted_p99_ms:.0f} ms |"
            f" {each.refused_p99_ms:.0f} ms | {word} |"
        )
    return "\n".join(lines) + "\n"
