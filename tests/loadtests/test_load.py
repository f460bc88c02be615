"""`make load` against somebody's shop: one that must be refused, and one that is too slow for its crowd."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests import records
from shop.local.tools import CHECKOUT
from tests.crowd import eventually
from tests.free_ports import free_port
from tests.servers import clean_environment

#: Seconds a refused load may take, and a short one.
REFUSAL_SECONDS, LOAD_SECONDS = 60, 120
#: Whom nobody knows: tells nothing to a stub, which does not ask.
COOKIES = "\n".join(f"cookie{number}" for number in range(2_000))

StartShop = Callable[..., str]


@pytest.fixture
def stub_shop() -> Iterator[StartShop]:
    """Start one on these terms; answers its address."""
    started = []

    def start(**terms: object) -> str:
        port = free_port()
        command = [sys.executable, "-m", "tests.loadtests.stub_shop", str(port), json.dumps(terms)]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def load(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make load` in a process of its own, with twenty people unless more are named."""
    (folder / "cookies").write_text(COOKIES)
    told = {"SHAPE": "soak", "USERS": "20", "SECONDS": "10", "SALE": "sale", "SHOPPERS": str(folder / "cookies")}
    environment = {**clean_environment(), **told, "REPORT": str(folder / "report"), **variables}
    return subprocess.run(
        [sys.executable, "-m", "loadtests.load"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LOAD_SECONDS,
        check=False,
    )


def assert_refused(ran: subprocess.CompletedProcess[str], folder: Path, because: str) -> None:
    """Exit status 2, one line that says why, and nothing that looks like a result."""
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert because in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (folder / "report").exists()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("terms", "variables", "because"),
    [
        ({}, {"SALE": "another"}, "has no sale another"),
        ({"phase": "closed"}, {}, "the sale sale is over"),
        ({"phase": "sold_out"}, {}, "the sale sale is over"),
        ({"ahead_ms": 3_600_000}, {}, "the clocks differ: the shop's is +3600.0 s from ours"),
        ({"ticket": (429, "SLOW_DOWN")}, {}, "rate limits count this client"),
        ({"ticket": (401, "SIGN_IN")}, {}, "does not know these shoppers"),
        ({}, {"SHAPE": "spike"}, "is open already"),
        ({}, {"SALE": ""}, "with HOST, say SALE=<slug>"),
        ({}, {"SHOPPERS": "/nowhere"}, "SHOPPERS /nowhere cannot be read"),
        ({}, {"USERS": "5000"}, "has 2000 cookies, and 5100 people come"),
    ],
)
def test_a_shop_that_gives_no_result_is_refused(
    stub_shop: StartShop, tmp_path: Path, terms: dict[str, object], variables: dict[str, str], because: str
) -> None:
    """A sale that is not there or over, clocks that differ, limits that count us, people it does not know."""
    assert_refused(load(tmp_path, HOST=stub_shop(**terms), **variables), tmp_path, because)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    assert_refused(load(tmp_path, HOST=f"http://127.0.0.1:{free_port()}"), tmp_path, "cannot be reached")


def test_an_address_that_hangs(tmp_path: Path) -> None:
    """Connections are taken by the kernel, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert_refused(load(tmp_path, HOST=host), tmp_path, "takes connections and answers nothing")


def test_an_address_that_is_another_site(tmp_path: Path) -> None:
    """It speaks HTTP, and what it says is no state of a sale."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    (tmp_path / "sales" / "sale").mkdir(parents=True)
    (tmp_path / "sales" / "sale" / "state").write_text("open")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as site:
        try:
            eventually(lambda: listens(port))
            assert_refused(load(tmp_path, HOST=f"http://127.0.0.1:{port}"), tmp_path, "is not this shop")
        finally:
            site.terminate()


@pytest.mark.parametrize(
    ("variables", "because"),
    [
        ({"HOST": "shop.example"}, "is no address like"),
        ({"SHAPE": "flood"}, "SHAPE must be one of spike, ramp"),
        ({"USERS": "many"}, "USERS must be a number from 1"),
        ({"USERS": "0"}, "USERS must be a number from 1"),
        ({"SECONDS": "nan"}, "SECONDS must be a number from 10"),
        ({"RATE": "-5"}, "RATE must be a number from 1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, variables: dict[str, str], because: str) -> None:
    assert_refused(load(tmp_path, **variables), tmp_path, because)


def test_more_people_than_open_files(tmp_path: Path) -> None:
    """A process that may open so few files cannot be all these people."""
    command = f"ulimit -n 1024 || exit 9; exec {sys.executable} -m loadtests.load"
    environment = {**clean_environment(), "USERS": "2000", "REPORT": str(tmp_path / "report")}
    ran = subprocess.run(
        ["sh", "-c", command], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )

    assert_refused(ran, tmp_path, "2040 people need 1220 open files in each of 2 processes, and 1024 are allowed")


def test_asked_for_twice_of_what_a_shop_can_it_offers_twice(stub_shop: StartShop, tmp_path: Path) -> None:
    """Two pages at once, each for 50 ms, are forty a second: eighty people a second come all the same, and the report
    says eighty. Who waits for answers would say forty, and that all is well."""
    capacity = 2 / 0.05
    host = stub_shop(workers=2, seconds=0.05)

    ran = load(tmp_path, HOST=host, RATE=str(2 * capacity / 0.6), USERS="1000")

    assert (tmp_path / "report" / "report.json").exists(), ran.stderr
    measures = json.loads((tmp_path / "report" / "report.json").read_text())["measures"]
    assert measures["rate_asked"] == 2 * capacity
    assert measures["rate_offered"] > 1.7 * capacity, ran.stdout
    assert measures["fates"]["page"]["good"] < measures["fates"]["page"]["offered"] / 2
    assert ran.stdout.splitlines()[-1].startswith(("FAIL", "INCONCLUSIVE"))
    assert (tmp_path / "report" / "locust.html").stat().st_size > 0


def test_workers_of_other_machines_need_nothing_but_the_checkout(stub_shop: StartShop, tmp_path: Path) -> None:
    """Two of them ask for what one would: each person comes from one worker, and both are in the records."""
    port = str(free_port())
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--worker", "--master-port", port]
    workers = [
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        variables = {"WORKERS_ELSEWHERE": "2", "LOCUST_MASTER_BIND_PORT": port, "RATE": "100", "USERS": "100"}
        ran = load(tmp_path, HOST=stub_shop(), **variables)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    asked = records.read(tmp_path / "report" / "records.jsonl")
    measures = json.loads((tmp_path / "report" / "report.json").read_text())["measures"]
    assert measures["rate_offered"] > 0.75 * measures["rate_asked"] > 0, ran.stdout
    assert {each.who for each in asked if each.kind == "page"} == set(range(110))
