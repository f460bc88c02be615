"""Who comes when: the shapes of a load, as numbers of sources over time. Knows nothing of Locust."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from loadtests.contenders.overload.open_loop import PATIENCE_SECONDS
from loadtests.plan import PEOPLE_A_SOURCE, Plan

#: Arrivals a second of one source: small, so that a rate is met closely, and large, so that few sources are needed.
RATE_A_SOURCE = 10.0
#: Of the rate: what a soak asks for hour after hour, and the valleys between the towers of a square wave.
SOAK, VALLEY = 0.6, 0.2
#: Seconds in which the last who came connect and have their answers, or give up both.
LAST_SECONDS = 2 * PATIENCE_SECONDS + 0.5
#: What `10x` is named after.
TIMES = 10.0
#: Seconds of a tower and of a valley: shorter than the service may take to change its level twice.
SQUARE_SECONDS = 5.0
#: A burst: seconds before and after it, its own, and the part of its rate that is asked for around it.
AROUND_SECONDS, BURST_SECONDS, AROUND = 4.0, 3.0, 0.06
#: Steps in which a ramp climbs: each long enough to be judged by itself.
RAMP_STEPS = 8


@dataclass(frozen=True)
class Shape:
    about: str
    #: People wait for the opening, instead of coming at random.
    herd: bool
    #: Which part of the full rate is asked for, that part of the way through.
    share: Callable[[float, Plan], float]
    #: Single requests, which somebody has written down, instead of people; for reports alone.
    written: bool = False


def _square(part: float, plan: Plan) -> float:
    return 1.0 if int(part * plan.seconds / SQUARE_SECONDS) % 2 == 0 else VALLEY


def _burst(part: float, plan: Plan) -> float:
    return 1.0 if AROUND_SECONDS <= part * plan.seconds < AROUND_SECONDS + BURST_SECONDS else AROUND


SHAPES = {
    "spike": Shape("everybody waits for T0, then clicks", True, lambda part, plan: 1.0),
    "ramp": Shape("more and more, to find the knee", False, lambda part, plan: ceil(part * RAMP_STEPS) / RAMP_STEPS),
    "soak": Shape("a busy day, for as long as you like", False, lambda part, plan: SOAK),
    "square": Shape("towers and valleys of five seconds, against levels that flap", False, _square),
    "mix": Shape("single requests of a mix, at a rate", False, lambda part, plan: 1.0, written=True),
    "burst": Shape("the same for three seconds, and a little around it", False, _burst, written=True),
    "10x": Shape("ten times the RATE, which is what the shop can", False, lambda part, plan: TIMES),
}


#: Seconds between two looks at the shape, as Locust takes them.
TICK_SECONDS = 1.0


def arrivals_asked(plan: Plan) -> float:
    """How many arrivals the shape asks for, in all."""
    ticks = range(int(plan.seconds / TICK_SECONDS))
    return sum((sources(plan, tick * TICK_SECONDS) or 0) * RATE_A_SOURCE * TICK_SECONDS for tick in ticks)


def sources(plan: Plan, elapsed_seconds: float) -> int | None:
    """How many sources there are to be after so many seconds; None when it is over, and the last have their answers."""
    if elapsed_seconds >= plan.seconds + LAST_SECONDS:
        return None
    shape = SHAPES[plan.shape]
    if shape.herd:
        return ceil(plan.people / PEOPLE_A_SOURCE)
    part = min(1.0, max(elapsed_seconds, 0.001) / plan.seconds)
    return max(1, round(shape.share(part, plan) * plan.rate / RATE_A_SOURCE))
