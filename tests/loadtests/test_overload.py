"""The client of the open model against a real server of known speed, and the arithmetic of what can be expected."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from loadtests.contenders.overload.load import Count, Kind, Load, Report, Seen, Stage, Waits, offer
from loadtests.contenders.overload.open_loop import Request, arrivals, is_whole
from loadtests.contenders.overload.prices import Prices, bound
from loadtests.contenders.overload.processors import _seconds, seconds_of
from loadtests.contenders.overload.tally import GOOD_SECONDS, Tally
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

StartServer = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[StartServer]:
    """Start a server of so many workers, each of whom takes so long; answers its port."""
    started = []

    def start(workers: int, seconds: float, *stall: float) -> int:
        port = free_port()
        command = [sys.executable, "-m", "tests.loadtests.slow_server", *map(str, (port, workers, seconds, *stall))]
        server = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        started.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return port

    yield start
    for server in started:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def asked(port: int, rate: float, seconds: float, paths: dict[int, str] | None = None, closed: int = 0) -> Report:
    """What a client saw that asked for these paths, by importance, all equally often."""
    paths = paths or {1: "/"}
    kinds = [Kind(importance, 1 / len(paths), [get(path)]) for importance, path in paths.items()]
    return offer(Load(port, kinds, [Stage(rate, seconds)], seed=1, closed=closed))


def test_the_client_offers_what_it_was_asked_for(serve: StartServer) -> None:
    """A server that can do forty a second is offered eighty all the same, and fails at it. Who waits for answers asks
    for no more than it gets, and would say that all is well."""
    [opened] = asked(serve(2, 0.05), rate=80, seconds=4).stages
    [closed] = asked(serve(2, 0.05), rate=80, seconds=2, closed=4).stages

    assert opened.total("offered") > 1.5 * 40 * 4
    assert opened.total("good") < opened.total("offered") / 2
    assert closed.total("offered") <= 1.2 * 40 * 2
    assert closed.total("lost") == 0


def test_every_request_is_counted_once(serve: StartServer) -> None:
    """Served, refused, another status, or a connection that ended: by importance, and together as many as were sent."""
    port = serve(100, 0)

    [seen] = asked(port, 400, 1, {3: "/", 2: "/busy", 1: "/gone", 0: "/drop"}).stages

    counts = seen.counts
    assert all(count.offered > 0 for count in counts.values())
    assert counts[3] == Count(counts[3].offered, good=counts[3].offered)
    assert counts[2] == Count(counts[2].offered, refused=counts[2].offered)
    assert counts[1] == Count(counts[1].offered, other=counts[1].offered)
    assert counts[0] == Count(counts[0].offered, lost=counts[0].offered)


def test_a_server_that_stalls_is_felt_by_all_who_were_to_come(serve: StartServer) -> None:
    """One stall of 0.3 s: those whose time came meanwhile waited, though a client that waits would have sent none."""
    port = serve(1_000, 0, 100, 0.3)

    report = asked(port, rate=300, seconds=1.5)

    [seen] = report.stages
    assert seen.total("lost") == 0
    assert seen.served.p99 > 250


def test_nobody_waits_for_ever(serve: StartServer) -> None:
    """Who gets no answer within two seconds is lost, and the run ends."""
    port = serve(1, 30)

    [seen] = asked(port, rate=50, seconds=1).stages

    assert seen.total("lost") == seen.total("offered") > 0


def test_a_load_is_the_same_each_time() -> None:
    """By its seed; its rates follow each other, and its kinds have their shares."""
    kinds = [Kind(3, 0.1, [get("/3")]), Kind(1, 0.9, [get("/1a"), get("/1b")])]
    load = Load(1, kinds, [Stage(1_000, 2), Stage(5_000, 2)], seed=7)

    first, second = ([(each.at, each.stage, each.content) for each in arrivals(load, 10.0)] for _ in range(2))

    assert first == second
    assert 10.0 < first[0][0] < first[-1][0] < 14.0
    by_stage = [sum(stage == number for _, stage, _ in first) for number in (0, 1)]
    assert by_stage == [pytest.approx(2_000, rel=0.1), pytest.approx(10_000, rel=0.05)]
    assert sum(b"/3" in content for _, _, content in first) == pytest.approx(1_200, rel=0.15)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_has_an_end(answer: bytes, whole: bool) -> None:
    assert is_whole(answer) is whole


@pytest.mark.parametrize(
    ("times", "refusal", "possible"),
    [
        (2, 0.09, 0.90),
        (5, 0.024, 0.90),
        (10, 0.011, 0.90),
        (10, 0.0, 1.0),
        (10, 0.1, 0.0),
        (20, 0.1, 0.0),
        (0.8, 0.1, 0.8),
    ],
)
def test_what_refusals_leave(times: float, refusal: float, possible: float) -> None:
    """The prices at which nine tenths are left, and those at which nothing is; below its peak it serves all."""
    assert bound(times, refusal) == pytest.approx(possible, abs=0.005)


def test_good_answers_count_by_their_work() -> None:
    """A click that costs three times as much as a look is three answers' worth: buyers first is not less work."""
    known = Prices(peak=100, answer=0.01, answers={3: 0.02, 1: 0.00666})
    seen = Seen(Stage(1_000, 10), {3: Count(500, good=500), 1: Count(9_500, good=0, refused=9_500)}, Waits(), Waits())

    assert known.part_of_peak(seen) == pytest.approx(1.0)
    assert known.part_of_processor(5, 3, 0.1) == pytest.approx(1.0)


def test_an_answer_is_good_for_half_a_second() -> None:
    """Later than that it is late, and a refusal is none, however soon it comes."""
    load = Load(1, [Kind(1, 1.0, [get("/")])], [Stage(1, 1)], seed=1)
    request = Request(0.0, stage=0, importance=1, content=b"")
    tally = Tally(load)

    for status, seconds in ((200, GOOD_SECONDS), (202, GOOD_SECONDS + 0.001), (503, 0.001)):
        tally.begun(request, 0.0)
        tally.answered(request, status, seconds)

    [seen] = tally.report(pinned=False).stages
    assert seen.counts[1] == Count(offered=3, good=1, late=1, refused=1)
    assert seen.refused.longest == pytest.approx(1)


@pytest.mark.parametrize(
    ("time", "seconds"), [("0:01.50", 1.5), ("02:03", 123), ("1:00:00", 3_600), ("1-00:00:01", 86_401)]
)
def test_times_of_ps_are_read(time: str, seconds: float) -> None:
    assert _seconds(time) == seconds


def test_the_time_of_a_server_has_that_of_its_workers() -> None:
    """Granian's first process starts the one that does the work."""
    work = (
        "import sys; [None for _ in range(20_000_000)]; sys.stdout.write('done'); sys.stdout.flush(); sys.stdin.read()"
    )
    before = seconds_of(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.read(4) == b"done"

    assert seconds_of(os.getpid()) - before > seconds_of(child.pid) / 2 > 0
    child.stdin.close()
    child.stdout.close()
    child.wait()
