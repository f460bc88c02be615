"""Answers of use, at two, five and ten times of what the server can.

What can be expected follows from two prices: s, the processor time of an answer, and r, that of a refusal. Offered k
times its peak, a server that refuses the rest has `(1 - k r/s) / (1 - r/s)` of its peak left for those whom it admits:
however clever the room is, refusals have to be written, too.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

from loadtests.contenders.overload.load import Seen, Stage
from loadtests.contenders.overload.prices import Prices, bound, price_of_a_refusal, prices
from loadtests.contenders.overload.scenes import BUYERS, SCENES, SHARES
from loadtests.contenders.overload.serving import Server, served
from loadtests.figures import Sample
from loadtests.house import House
from loadtests.shapes import AROUND, BURST_SECONDS

#: So much longer than other measurements: the issue asks for windows of 20 s.
TIMES_SECONDS = 10
#: Of that, for the peak, the price of a refusal, and a server without a room, which fails at once.
SHARE_OF_OTHERS = 0.25
#: Multiples of the peak that are offered: a busy evening, and what a room is for.
CALM, OVERLOADS = 0.8, (2, 5, 10)
#: Without a room, twice the peak is enough.
UNPROTECTED = 2
#: Of what refusals leave, the part that buyers may need to be sure of it: arrivals come in clusters.
BUYERS_FIT = 0.9
#: Of the peak: where refusals alone take the processor, nothing behind the door can hold a bar.
NEXT_TO_NOTHING = 0.05
#: A spike, in multiples of the peak: before it, while it lasts, and afterwards.
SPIKE, SPIKE_SECONDS = 10, BURST_SECONDS
SPIKE_BETWEEN = AROUND * SPIKE
#: Seconds after a spike in which its queue must be gone, and for how long it is looked at then.
SPIKE_OVER_SECONDS, SPIKE_LOOK_SECONDS = 1.0, 3.0


class Goodput:
    def __init__(self, house: House, scene: str) -> None:
        self._house = house
        self._name = scene

    def measure(self, seconds: float) -> list[Sample]:
        return list(self._samples(TIMES_SECONDS * seconds))

    def _samples(self, seconds: float) -> Iterator[Sample]:
        self._scene = SCENES[self._name](self._house)
        short_seconds = SHARE_OF_OTHERS * seconds
        with self._serving(self._scene.without) as server:
            known = prices(server, self._scene, short_seconds)
            yield Sample(known.peak, "answers/s", "peak")
            yield Sample(known.answer * 1e6, "us", "an answer costs")
            window = server.under(self._scene.kinds, Stage(UNPROTECTED * known.peak, short_seconds))
            yield Sample(known.part_of_peak(window.seen), "of peak", f"{UNPROTECTED}x without a room")
        with self._serving(self._scene.refusing, warm=False) as server:
            refusal = price_of_a_refusal(server, self._scene, short_seconds)
            yield Sample(refusal * 1e6, "us", "a refusal costs")
        with self._serving(self._scene.within) as server:
            yield from self._overloads(server, known, refusal / known.answer, seconds)
            yield from self._spike(server, known)

    def _serving(self, target: str, warm: bool = True) -> AbstractContextManager[Server]:
        return served(self._house, target, self._scene.kinds if warm else (), **self._scene.variables)

    def _overloads(self, server: Server, known: Prices, refusal: float, seconds: float) -> Iterator[Sample]:
        buyers, late = [], []
        for times in (CALM, *OVERLOADS):
            report = server.under(self._scene.kinds, Stage(times * known.peak, seconds)).report
            [seen] = report.stages
            late.append(report.client_late_ms)
            possible = bound(seen.total("offered") / seconds / known.peak, refusal)
            if known.part_of_processor(times, BUYERS, SHARES[BUYERS]) <= BUYERS_FIT * possible:
                buyers.append(seen.share("good", BUYERS))
            if times == CALM:
                yield from _calm(seen, known)
            else:
                yield from _overloaded(f"{times}x", seen, known, possible)
        yield Sample(100 * min(buyers), "%", "buyers while they alone fit")
        yield Sample(max(late), "ms", "the client was late, p99")

    def _spike(self, server: Server, known: Prices) -> Iterator[Sample]:
        """Of those who come when it must be over, the wait; who is served at once takes as long as before the spike."""
        between, spike = SPIKE_BETWEEN * known.peak, Stage(SPIKE * known.peak, SPIKE_SECONDS)
        stages = [Stage(between, SPIKE_LOOK_SECONDS), spike, Stage(between, SPIKE_OVER_SECONDS)]
        report = server.under(self._scene.kinds, *stages, stages[0]).report
        before, during, _, after = report.stages
        yield Sample(during.served.p99, "ms", "p99 in a spike")
        yield Sample(max(0.0, after.served.p99 - before.served.p50), "ms", "queue 1 s after a spike")


def _calm(seen: Seen, known: Prices) -> Iterator[Sample]:
    yield Sample(known.part_of_peak(seen), "of peak", f"{CALM}x")
    yield Sample(seen.counts[BUYERS].refused, "buyers", f"{CALM}x, buyers refused")
    yield Sample(100 * seen.total("refused") / seen.total("offered"), "%", f"{CALM}x, refused")
    yield Sample(seen.served.p99, "ms", f"{CALM}x, p99")


def _overloaded(name: str, seen: Seen, known: Prices, possible: float) -> Iterator[Sample]:
    part = known.part_of_peak(seen)
    yield Sample(part, "of peak", name)
    yield Sample(possible, "of peak", f"{name}, possible")
    yield Sample(100 * seen.share("good", BUYERS), "%", f"{name}, buyers")
    if possible > NEXT_TO_NOTHING:
        yield Sample(part / possible, "x", f"{name}, against possible")
        yield Sample(seen.served.p99, "ms", f"{name}, p99")
    else:
        yield Sample(seen.served.p99, "ms", f"{name}, p99 beyond what is possible")
    yield Sample(seen.refused.p99, "ms", f"{name}, refused p99")
    yield Sample(seen.total("lost") + seen.total("other"), "requests", f"{name}, lost")
