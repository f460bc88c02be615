"""What an answer costs and what a refusal costs, and what can be expected of a server that has both to give."""

from dataclasses import dataclass

from loadtests.contenders.overload.load import Seen, Stage
from loadtests.contenders.overload.scenes import Scene
from loadtests.contenders.overload.serving import Server

#: Clients that wait for their answers at the peak: enough to keep a processor busy while some of them wait.
CLIENTS = 16
#: Refusals a second at which they are priced: what ten times a light application would cause.
REFUSALS_A_SECOND = 5_000.0


def bound(times: float, refusal: float) -> float:
    """Of its peak, what a server has left for those whom it admits, offered so many times that peak, when a refusal
    costs this part of an answer: `(1 - k r/s) / (1 - r/s)`. Below its peak it can serve what is offered."""
    return times if times <= 1 else max(0.0, (1 - times * refusal) / (1 - refusal))


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a mix, at the peak of an application without a room."""

    #: Answers a second.
    peak: float
    #: Seconds of the server's processor for an answer of the mix, and for one of each importance.
    answer: float
    answers: dict[int, float]

    def part_of_peak(self, seen: Seen) -> float:
        """Good answers against the peak, in work: a room that serves buyers first has dearer requests than the mix."""
        work = sum(count.good * self.answers[importance] for importance, count in seen.counts.items())
        return work / self.answer / seen.stage.seconds / self.peak

    def part_of_processor(self, times: float, importance: int, share: float) -> float:
        """Of the processor, what the requests of this importance alone would need."""
        return times * share * self.answers[importance] / self.answer


def prices(server: Server, scene: Scene, seconds: float) -> Prices:
    window = server.asked_by(CLIENTS, scene.kinds, seconds)
    answer = window.cost_of("good")
    if scene.alike:
        answers = {kind.importance: answer for kind in scene.kinds}
    else:
        each_seconds = seconds / len(scene.kinds)
        answers = {
            kind.importance: server.asked_by(CLIENTS, [kind], each_seconds).cost_of("good") for kind in scene.kinds
        }
    return Prices(window.seen.goodput, answer, answers)


def price_of_a_refusal(server: Server, scene: Scene, seconds: float) -> float:
    """Seconds of its processor, of a server that refuses everybody."""
    return server.under(scene.kinds, Stage(REFUSALS_A_SECOND, seconds)).cost_of("refused")
