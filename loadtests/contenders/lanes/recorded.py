"""From the click to the row in PostgreSQL, with everything that takes part: express lane, stream, ring, worker."""

import threading
import time
from bisect import bisect_left

from django.db import connection

from loadtests.contenders.lanes import prepared, serving
from loadtests.contenders.overload.load import Kind, Load, Report, Stage, offer
from loadtests.figures import Sample, percentile
from loadtests.house import House
from shop.local import processes

#: Clicks a second, and for how many times longer than other measurements.
RATE, TIMES_SECONDS = 2_000.0, 5
SEED = 11
BUYING = 3
#: Seconds between two looks at how many are recorded, and until those that are missing are given up.
LOOK_SECONDS, PATIENCE_SECONDS = 0.02, 60
WORKER = [
    *("-m", "celery", "-A", "shop", "worker", "-n", "worker@bench"),
    *("-c", str(processes.WORKER_PROCESSES), "-Q", processes.WORKER_QUEUES, "--loglevel", "ERROR"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
]


class ClickToRecorded:
    """The k-th row belongs to the k-th hold: the stream keeps their order, and its readers take turns."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        with self._house.running(self._house.worker("worker", WORKER)):  # nobody records what others hold
            return self._measured(TIMES_SECONDS * seconds)

    def _measured(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        offers = prepared.offers_on_sale(1)
        count = int(1.2 * RATE * seconds)
        clicks = prepared.clicks(offers, count, self._house.people(count))
        kinds = [Kind(BUYING, 1.0, [click.decode() for click in clicks])]
        serving.look_at(server, offers.values())
        watch = _Watch()
        statements = server.statements
        watch.start()
        report = offer(Load(server.port, kinds, [Stage(RATE, seconds)], SEED))
        statements = server.statements - statements
        waits = watch.waits(report.stages[0].total("good"))
        return _samples(report, waits, statements)


def _samples(report: Report, waits: list[float], statements: int) -> list[Sample]:
    [seen] = report.stages
    return [
        Sample(percentile(waits, 0.99) * 1000 + seen.served.p99, "ms", "p99"),
        Sample(percentile(waits, 0.5) * 1000 + seen.served.p50, "ms", "p50"),
        Sample(seen.served.p99, "ms", "click to reserved, p99"),
        Sample(seen.goodput, "buys/s", "reserved"),
        Sample(statements / seen.total("offered"), "a click", "SQL before reserved"),
        Sample(report.client_late_ms, "ms", "the client was late, p99"),
    ]


class _Watch:
    """How many rows there were at which moment."""

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._counts: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _look(self) -> None:
        try:
            while not self._ended.wait(LOOK_SECONDS):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM inventory_reservation")
                    [count] = cursor.fetchone()
                self._counts.append(count)
                self._moments.append(time.time())
        finally:
            connection.close()

    def waits(self, expected: int) -> list[float]:
        """Seconds from each hold to the look that saw its row. Raises RuntimeError when rows are missing."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self._counts or self._counts[-1] < expected:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"{self._counts[-1:]} of {expected} holds were recorded")
            time.sleep(LOOK_SECONDS)
        self._ended.set()
        self._thread.join()
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM reserved_at) FROM inventory_reservation ORDER BY reserved_at")
            held = [float(row[0]) for row in cursor.fetchall()][: self._counts[-1]]
        seen = [self._moments[bisect_left(self._counts, number)] for number in range(1, len(held) + 1)]
        return [moment - at for at, moment in zip(held, seen, strict=True)]
