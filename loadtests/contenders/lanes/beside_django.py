"""The express lane while Django, in the process beside it, is offered five times what it can do."""

from concurrent.futures import ThreadPoolExecutor

from loadtests.contenders.lanes import prepared, serving
from loadtests.contenders.overload.load import Kind, Load, Report, Stage, offer
from loadtests.contenders.overload.scenes import BUYERS
from loadtests.figures import Sample
from loadtests.house import House

#: Hot requests a second, and how many times its capacity Django gets.
HOT_RATE, TIMES = 3_000.0, 5
#: Clients that wait, while Django's capacity is looked for.
CLIENTS = 16
#: So many times longer than other measurements: a p99 of a crowd.
TIMES_SECONDS = 4
#: Of the arrivals.
SEED = 7
BUYING, POLLING = 3, 2
#: Parts of the hot requests.
BUYS, POLLS = 0.3, 0.7
#: People who hold a unit and ask where it stands.
POLLERS = 2_000


class BesideDjango:
    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        seconds = TIMES_SECONDS * seconds
        pages = serving.shop(self._house, "pages", "pages")
        express = serving.shop(self._house, "express", "express")
        offers = prepared.offers_on_sale(1)
        [(offer_id, slug)] = offers.items()
        for each in (pages, express):
            serving.look_at(each, [slug])
        page = [Kind(1, 1.0, [prepared.get(f"/sales/{slug}/", prepared.BROWSER).decode()])]
        clicks = prepared.clicks(offers, int(2 * BUYS * HOT_RATE * seconds))
        hot = [
            Kind(BUYING, BUYS, [click.decode() for click in clicks]),
            Kind(POLLING, POLLS, [poll.decode() for poll in prepared.polls(offer_id, POLLERS)]),
        ]
        with self._house.apart():
            peak = _good(offer(Load(pages.port, page, [Stage(1_000, seconds / 4)], SEED, CLIENTS)), seconds / 4)
            alone = offer(Load(express.port, hot, [Stage(HOT_RATE, seconds / 4)], SEED))
            with ThreadPoolExecutor(1) as beside:
                flood = beside.submit(offer, Load(pages.port, page, [Stage(TIMES * peak, seconds)], SEED))
                report = offer(Load(express.port, hot, [Stage(HOT_RATE, seconds)], SEED))
                flooded = flood.result()
        return _samples(peak, alone, report, flooded)


def _good(report: Report, seconds: float) -> float:
    [seen] = report.stages
    return seen.total("good") / seconds


def _samples(peak: float, alone: Report, report: Report, flooded: Report) -> list[Sample]:
    [seen], [before], [beside] = report.stages, alone.stages, flooded.stages
    return [
        Sample(seen.served.p99, "ms", "p99"),
        Sample(seen.served.p50, "ms", "p50"),
        Sample(before.served.p99, "ms", "p99 alone"),
        Sample(100 * seen.share("good", BUYERS), "%", "buyers"),
        Sample(seen.goodput, "requests/s", "hot"),
        Sample(peak, "requests/s", "Django's peak"),
        Sample(beside.total("offered") / beside.stage.seconds / peak, "x", "Django was offered"),
        Sample(report.client_late_ms, "ms", "the client was late, p99"),
    ]
