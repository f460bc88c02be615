"""The numbers of several processes, added up by whichever is asked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilience import scraping
from tests.crowd import eventually

#: Counts one refusal, says that it is at a level, and stays until its input ends.
COUNTING = """
import sys
from resilience.metrics import LEVEL, REFUSALS
REFUSALS.labels("all", "busy", "1").inc()
LEVEL.set(int(sys.argv[1]))
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(scraping.FOLDER, str(tmp_path))
    return tmp_path


@contextmanager
def counting(level: int) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has counted; killed without ceremony at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", COUNTING, str(level)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        yield process
        process.kill()


def number(name: str) -> float | None:
    """What the page says of a metric with these labels; None when it says nothing."""
    for line in scraping.page().decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None


REFUSED = 'http_refusals_total{importance="1",lane="all",reason="busy"}'


def test_counts_of_all_processes_add_up(folder: Path) -> None:
    """Also those of processes that have ended: a counter never goes back."""
    with counting(0), counting(0):
        assert number(REFUSED) == 2

    assert number(REFUSED) == 2


def test_the_state_of_the_dead_is_forgotten(folder: Path) -> None:
    """The level is that of the process that gives up most, among those that run."""
    with counting(1):
        with counting(3) as worst:
            assert number("service_level") == 3

        assert worst.returncode is not None
        assert number("service_level") == 1

    assert eventually(lambda: number("service_level") is None)


def test_a_process_alone_tells_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder."""
    monkeypatch.delenv(scraping.FOLDER, raising=False)

    assert number("service_level") is not None


#: All that counts in a forked child, whose numbers have no folder any more; says how many lines that was worth.
UNCOUNTED = """
import logging, os, shutil
from resilience.counting import carry_on_all
from resilience.metrics import ANSWERS, LEVEL, REFUSALS
lines = []
logging.root.addHandler(type("Lines", (logging.Handler,), {"emit": lambda _, record: lines.append(record)})())
refused, answered = REFUSALS.labels("all", "busy", "1"), ANSWERS.labels("all", "sale", "GET", "200")
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
if pid := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
refused.inc()
answered.observe(0.1)
carry_on_all()
LEVEL.set(3)
os._exit(len(lines))
"""


def test_counting_never_raises(folder: Path) -> None:
    """The folder is removed under a worker that forks its children: they work on, and say that they do not count."""
    process = subprocess.run(
        [sys.executable, "-c", UNCOUNTED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        timeout=60,
    )

    assert process.returncode == 3


#: Forks while four threads count, with a change of threads at nearly every step; each child counts once.
FORKING = """
import os, sys, threading
from resilience.metrics import REFUSALS
refused = REFUSALS.labels("all", "busy", "1")
sys.setswitchinterval(1e-6)
def storm():
    while True:
        refused.inc(0)
for _ in range(4):
    threading.Thread(target=storm, daemon=True).start()
for _ in range(100):
    if not (pid := os.fork()):
        refused.inc()
        os._exit(0)
    os.waitpid(pid, 0)
os._exit(0)
"""


def test_a_fork_in_a_storm_of_counts_counts_on(folder: Path) -> None:
    """No child waits for a lock that a thread holds which it does not have."""
    subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        timeout=60,
        start_new_session=True,
    )

    assert number(REFUSED) == 100


#: Counts what each request moves, before and after a fork, from four threads at once; nobody asks for the sums.
OFTEN = """
import os, sys, threading
from resilience.metrics import ANSWERS, CALLS
sys.setswitchinterval(1e-6)
answered, called = ANSWERS.labels("all", "sale", "GET", "200"), CALLS.labels("redis", "ok")
def count():
    for _ in range(1_000):
        answered.observe(0.004)
        called.inc()
count()
if pid := os.fork():
    os.waitpid(pid, 0)
threads = [threading.Thread(target=count) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("counted", flush=True)
sys.stdin.read()
"""
CALLED = 'dependency_calls_total{dependency="redis",result="ok"}'
SUMMED = 'http_answer_seconds_{}{{lane="all"{},method="GET",status="200",view="sale"}}'


def test_what_is_counted_often_comes_soon_and_whole(folder: Path) -> None:
    """Of two processes with four threads each, one forked from the other: the child's sums begin at nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", OFTEN],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        process.stdin.close()  # the child ends, and its parent goes on
        assert process.stdout.readline() == "counted\n"

    assert number(CALLED) == 1_000 + 2 * 4_000
    assert number(SUMMED.format("count", "")) == 1_000 + 2 * 4_000
    assert number(SUMMED.format("bucket", ',le="0.005"')) == 1_000 + 2 * 4_000
    assert number(SUMMED.format("sum", "")) == pytest.approx(9_000 * 0.004)


def test_a_running_process_is_heard_of_without_asking_it(folder: Path) -> None:
    """Whoever is scraped tells the numbers of the others, which carry theirs on by themselves."""
    counts = COUNTING.replace("LEVEL, REFUSALS", "CALLS, LEVEL, REFUSALS").replace(
        "LEVEL.set", 'CALLS.labels("redis", "ok").inc()\nLEVEL.set'
    )
    with subprocess.Popen(
        [sys.executable, "-c", counts, "0"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
    ) as process:
        assert eventually(lambda: number(CALLED) == 1)
        process.kill()
