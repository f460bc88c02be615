"""What a room costs while there is room: the same clients at the same application, with it and without."""

from itertools import starmap
from statistics import median

from loadtests.contenders.overload.scenes import BUYERS, SCENES
from loadtests.contenders.overload.serving import Server, served
from loadtests.figures import Sample
from loadtests.house import House

#: Clients that wait for their answers: as many as keep the processor busy, so that nobody is refused.
CLIENTS = 6
#: Both take turns in windows so short that a machine which slows down slows both of a pair; so many pairs.
SECONDS, PAIRS = 1.0, 8


class Idle:
    def __init__(self, house: House, scene: str) -> None:
        self._house = house
        self._name = scene

    def measure(self, seconds: float) -> list[Sample]:
        scene = SCENES[self._name](self._house)
        self._kinds = [kind for kind in scene.kinds if kind.importance == BUYERS]
        with (
            served(self._house, scene.without, self._kinds, **scene.variables) as without,
            served(self._house, scene.within, self._kinds, **scene.variables) as within,
        ):
            pairs = [(self._rate(without), self._rate(within)) for _ in range(PAIRS)]
        return [Sample(100 * (1 - median(starmap(_ratio, pairs))), "%", "of throughput")]

    def _rate(self, server: Server) -> float:
        return server.asked_by(CLIENTS, self._kinds, SECONDS).seen.goodput


def _ratio(without: float, within: float) -> float:
    return within / without
