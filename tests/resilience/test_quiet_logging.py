"""Storms of log lines: how few are written, that every one is counted, and what is never left out."""

import itertools
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from resilience.log_lines import JsonLines, TextLines, label, labelled
from resilience.log_writer import QueuedHandler
from resilience.quiet_logging import TRACEBACK_SECONDS, Gate, QuietLogger
from tests.crowd import PATIENCE_SECONDS, at_once, eventually

CHECKOUT = Path(__file__).resolve().parents[2]
#: Lines a second of a kind that a storm may come to.
LINES_A_SECOND = 20
_names = itertools.count(1)


class Heard(logging.Handler):
    """The records that came through."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def left_out(self) -> int:
        """Lines that were left out, by what the others say."""
        return sum(getattr(record, "left_out", 0) for record in self.records)

    @property
    def written(self) -> list[logging.LogRecord]:
        """Without those that only say how many were left out."""
        return [record for record in self.records if not record.getMessage().startswith(f"{left_out_by(record)} lines")]


def left_out_by(record: logging.LogRecord) -> int:
    return getattr(record, "left_out", 0)


class Time:
    """Stands still unless somebody moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def clock() -> Time:
    return Time()


MakeLogger = Callable[..., QuietLogger]


@pytest.fixture
def quiet(heard: Heard) -> Iterator[MakeLogger]:
    """A logger with a gate of its own, which only speaks to `heard`."""
    gates = []

    def make(name: str = "", gate: Gate | None = None, **options: Any) -> QuietLogger:
        logger = QuietLogger(name or f"quiet-{next(_names)}", logging.INFO)
        logger.gate = gate or Gate(**options)
        logger.addHandler(heard)
        gates.append(logger.gate)
        return logger

    yield make
    for gate in gates:
        gate.close()


def test_a_hundred_thousand_errors_as_fast_as_they_come(quiet: MakeLogger, heard: Heard) -> None:
    """Four threads, one kind of line: at most twenty lines a second, and the counts add up exactly."""
    logger, began_at = quiet(), time.monotonic()

    at_once(range(4), lambda _: [logger.error("%s is away: %d", "redis", each) for each in range(25_000)])
    seconds = ceil(time.monotonic() - began_at)
    lines = len(heard.records)
    assert logger.gate
    logger.gate.close()

    assert lines <= LINES_A_SECOND * seconds
    assert len(heard.written) + heard.left_out == 100_000


def test_ten_seconds_of_a_storm(quiet: MakeLogger, heard: Heard, clock: Time) -> None:
    """A hundred thousand a second: twenty lines at most in every single second, and no line is forgotten."""
    logger, lines_in = quiet(clock=clock), []

    for _ in range(10):
        before = len(heard.records)
        for _ in range(100_000):
            clock.now += 1e-5
            logger.error("%s is away", "redis")
        lines_in.append(len(heard.records) - before)
    assert logger.gate
    logger.gate.close()

    assert max(lines_in) <= LINES_A_SECOND
    assert min(lines_in) >= 1
    assert len(heard.written) + heard.left_out == 1_000_000


def test_what_is_left_out_is_never_built(quiet: MakeLogger, heard: Heard) -> None:
    """Records are made for the lines that are written and for no other."""
    logger, made, factory = quiet(), [], logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made.append(args)
        return factory(*args, **kwargs)

    logging.setLogRecordFactory(make)
    try:
        for _ in range(1_000):
            logger.error("away")
        assert len(made) == len(heard.records) < LINES_A_SECOND
    finally:
        logging.setLogRecordFactory(factory)


def test_the_next_line_tells_what_was_left_out(quiet: MakeLogger, heard: Heard, clock: Time) -> None:
    """Of its own kind, once; other kinds, levels and loggers have their own buckets and counts."""
    gate = Gate(key_burst=2, clock=clock)
    logger, other = quiet(gate=gate), quiet(gate=gate)
    for _ in range(5):
        logger.error("a %d", 1)
    logger.error("b")
    logger.warning("a %d", 1)
    other.error("a %d", 1)
    assert [left_out_by(record) for record in heard.records] == [0, 0, 0, 0, 0]

    clock.now += 1
    logger.error("a %d", 2)
    clock.now += 1
    logger.error("a %d", 3)

    assert [left_out_by(record) for record in heard.records[-2:]] == [3, 0]


def test_a_storm_that_just_stops_is_told_by_a_timer(quiet: MakeLogger, heard: Heard) -> None:
    """Nobody logs any more, and the count still comes, with the kind it belongs to."""
    logger = quiet(tell_seconds=0.01)
    for _ in range(50):
        logger.error("%s is away", "redis")

    eventually(lambda: len(heard.written) + heard.left_out == 50)

    assert heard.records[-1].getMessage().endswith("lines like this were left out: %s is away")
    assert heard.records[-1].levelno == logging.ERROR


def test_all_kinds_together_have_a_limit(quiet: MakeLogger, heard: Heard, clock: Time) -> None:
    """A message that was put together before it was logged is another kind each time, and no way around."""
    logger = quiet(clock=clock, lines_a_second=30)

    for number in range(500):
        logger.error(f"{number} is away")

    assert len(heard.records) == 30
    assert logger.gate
    logger.gate.close()
    assert len(heard.written) + heard.left_out == 500


def test_memory_is_bounded(quiet: MakeLogger, heard: Heard, clock: Time, request: pytest.FixtureRequest) -> None:
    """Kinds beyond the table share a bucket; those that fell silent make room again."""
    logger = quiet(clock=clock, keys_maximum=50, lines_a_second=100_000)
    for_all_others = logging.getLogger("resilience.quiet_logging")
    for_all_others.addHandler(heard)
    request.addfinalizer(lambda: for_all_others.removeHandler(heard))
    for number in range(10_000):
        logger.error(f"{number} is away")
    assert logger.gate
    assert len(logger.gate._buckets) == 50
    assert len(heard.records) == 50 + 10

    clock.now += 60
    logger.gate.tell()
    logger.error("new")

    assert len(logger.gate._buckets) == 1
    assert len(heard.written) + heard.left_out == 10_001


def fail(logger: logging.Logger, error: type[Exception]) -> None:
    try:
        raise error("here")
    except error:
        logger.exception("failed")


def test_one_traceback_for_each_error_and_while(quiet: MakeLogger, heard: Heard, clock: Time) -> None:
    """The second of the same says what it was in a word; another error shows its own; later it is shown again."""
    logger = quiet(clock=clock)
    for error in (ValueError, ValueError, KeyError, ValueError):
        fail(logger, error)
    clock.now += TRACEBACK_SECONDS
    fail(logger, ValueError)

    assert [bool(record.exc_info) for record in heard.records] == [True, False, True, False, True]
    assert getattr(heard.records[1], "error", None) == "ValueError: here"


def test_spared_loggers_and_all_below_them(quiet: MakeLogger, heard: Heard) -> None:
    """Never left out and never counted against the others; a name that only begins like theirs is not theirs."""
    gate = Gate(spared=["audit"], lines_a_second=15, keys_maximum=1)
    audit, below, other = quiet("audit", gate), quiet("audit.staff", gate), quiet("auditor", gate)
    for _ in range(100):
        for logger in (other, audit, below):
            logger.error("done")

    assert Counter(record.name for record in heard.records) == {"audit": 100, "audit.staff": 100, "auditor": 10}


def test_who_is_watched_is_told_in_full(quiet: MakeLogger, heard: Heard) -> None:
    """Every line down to DEBUG with each traceback, for that buyer alone, and as soon as somebody asks for it."""
    logger = quiet()
    assert logger.gate
    logger.gate.watched = frozenset(["buyer:17"])

    for buyer in (16, 17):
        with labelled(request="r"):
            label(buyer=buyer)
            for _ in range(50):
                logger.debug("looks for %d", buyer)
                fail(logger, ValueError)

    told = Counter((record.levelname, bool(record.exc_info)) for record in heard.records)
    assert told == {("DEBUG", False): 50, ("ERROR", True): 50 + 1, ("ERROR", False): 9}
    assert not logger.isEnabledFor(logging.DEBUG)


def test_a_line_names_the_place_it_was_logged_at(quiet: MakeLogger, heard: Heard) -> None:
    """And not the module that let it through."""
    quiet().error("here")

    assert heard.records[0].funcName == "test_a_line_names_the_place_it_was_logged_at"


@pytest.mark.parametrize("odd", [ValueError("x"), {"a": 1}, None, 7, b"bytes", "\0", "%s %s"])
def test_odd_messages(quiet: MakeLogger, heard: Heard, odd: object) -> None:
    """Whatever is logged is one line; arguments that do not fit are shown beside it."""
    quiet().error(odd, *(["one"] if odd == "%s %s" else []))

    assert json.loads(JsonLines().format(heard.records[0]))["message"]


# --- Lines ----------------------------------------------------------------------------------------------------------

FORGED = "x\n2026-01-01 ERROR shop all is lost\r\x1b[2J\x85\u2028\x7f\udcff\u202e"


@pytest.mark.parametrize("lines", [JsonLines, TextLines])
def test_nobody_forges_a_line(quiet: MakeLogger, heard: Heard, lines: type[logging.Formatter]) -> None:
    """Line feeds, escape sequences and whatever else is not seen come as their escapes, in labels and errors, too."""
    with labelled(request=FORGED):
        try:
            raise ValueError(FORGED)
        except ValueError:
            quiet().exception("refused: %s", FORGED)
        line = lines().format(heard.records[0])

    first, *more = line.split("\n")
    assert all(character.isprintable() for character in line.replace("\n", ""))
    assert "all is lost" in first
    assert all(each.startswith("    ") for each in more)
    assert bool(more) is (lines is TextLines)


CLEAN = {"secret_names": ["password", "cookie", "token"], "secrets": ["very-secret-key"]}


@pytest.mark.parametrize(
    "told",
    [
        "password=hunter2",
        "?a=1&password=hunter2&b=2",
        "password1 = 'hunter2 and more'",
        '{"password": "hunter2"}',
        "{'password': 'hunter2', 'x': 1}",
        "csrf_token=hunter2",
        "Cookie: a=1; sessionid=hunter2; b=hunter2",
        "Authorization: Basic hunter2hunter2",
        "sent Bearer hunter2.hunter2",
        "redis://user:hunter2@10.0.0.1:6379/0",
        "postgresql://shop:hunter2@h@db/shop",
        "redis://:hunter2@cache",
        "signed with very-secret-key",
    ],
)
def test_secrets_are_masked(quiet: MakeLogger, heard: Heard, told: str) -> None:
    """By their names, by where they stand, and by their values; in messages, errors and tracebacks."""
    try:
        raise ValueError(told)
    except ValueError:
        quiet().exception("it said %s", told)

    for line in (JsonLines(**CLEAN).format(heard.records[0]), TextLines(**CLEAN).format(heard.records[0])):
        assert "***" in line
        assert "hunter2" not in line
        assert "very-secret" not in line


def test_a_long_value_is_cut(quiet: MakeLogger, heard: Heard) -> None:
    """Both ends of it stay, and cleaning it takes no time to speak of."""
    quiet().error("a%sz", "password" * 1_000_000)

    message = json.loads(JsonLines(**CLEAN).format(heard.records[0]))["message"]
    assert len(message) < 5_000
    assert (message[0], message[-1]) == ("a", "z")


# --- Writing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_lines(descriptor: int, until: Callable[[list[str]], bool]) -> list[str]:
    """Read on until that is true of the lines."""
    text = b""
    while not until(lines := text.decode().splitlines()):
        assert select.select([descriptor], [], [], PATIENCE_SECONDS)[0], f"nothing more comes after {lines[-3:]}"
        text += os.read(descriptor, 65_536)
    return lines


def test_a_log_that_nobody_reads_stops_nobody(pipe: tuple[int, int]) -> None:
    """The pipe is full: calls go on, what finds no place is dropped, and the reader learns how many there were."""
    handler = QueuedHandler(pipe[1], queue_maximum=100)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("writer")
    logger.addHandler(handler)
    long = "x" * 1_000

    calls = 0
    while handler.dropped < 500:  # pipes are of many sizes
        logger.error(long)
        calls += 1

    def told(lines: list[str]) -> int:
        return sum(int(line.split()[0]) for line in lines if "were dropped" in line)

    lines = read_lines(pipe[0], lambda lines: lines.count(long) + told(lines) == calls)
    assert handler.dropped == 0
    logger.error("last")
    assert read_lines(pipe[0], bool) == ["last"]
    handler.close()
    assert lines.count(long) >= 100


def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    """Nothing is raised; what could not be written is counted."""
    spare = os.dup(pipe[1])
    reader, writer = os.pipe()
    os.close(reader)
    handler = QueuedHandler(writer)
    logger = logging.Logger("writer")
    logger.addHandler(handler)

    for _ in range(10):
        logger.error("x")

    eventually(lambda: handler.dropped == 10)
    handler.close()
    os.close(writer)
    os.close(spare)


# --- Processes ------------------------------------------------------------------------------------------------------

SETUP = """
import logging, os, sys, threading
from resilience import quiet_logging
early = logging.getLogger("early")
quiet_logging.configure({
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "resilience.log_lines.JsonLines"}},
    "handlers": {"queue": {"()": "resilience.log_writer.QueuedHandler", "formatter": "line"}},
    "root": {"handlers": ["queue"], "level": "INFO"},
    "quiet": {},
})
"""


def said_by(program: str, status: int = 0) -> list[dict[str, Any]]:
    """The lines of a process that sets its logging up and runs this."""
    ended = subprocess.run(
        [sys.executable, "-c", SETUP + program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == status, ended.stderr
    return [json.loads(line) for line in ended.stderr.splitlines()]


def counted(lines: list[dict[str, Any]]) -> int:
    """Those that were written, and those that were left out."""
    return sum(line.get("left_out", 0) + ("lines like this" not in line["message"]) for line in lines)


def test_every_logger_is_quiet_and_the_end_tells_the_rest() -> None:
    """Made before or after, and the root; with the counts of a process that ends in the middle of a storm."""
    lines = said_by("""
for _ in range(1_000):
    for logger in (early, logging.getLogger("late"), logging.getLogger()):
        logger.error("away")
""")

    assert Counter(line["logger"] for line in lines) == {"early": 11, "late": 11, "root": 11}
    assert counted(lines) == 3_000


def test_an_exit_by_an_exception_tells_the_rest() -> None:
    """Python ends with status 3 after its own last lines."""
    lines = said_by(
        """
for _ in range(1_000):
    early.error("away")
sys.exit(3)
""",
        status=3,
    )

    assert counted(lines) == 1_000


def test_a_fork_tells_its_own(tmp_path: Path) -> None:
    """Forked while other threads log: nothing hangs, nothing is told twice, and nothing is lost of either process."""
    lines = said_by("""
def storm():
    for _ in range(20_000):
        early.error("away")
threads = [threading.Thread(target=storm) for _ in range(3)]
for each in threads:
    each.start()
for _ in range(1_000):
    early.error("away")
for _ in range(5):
    if not os.fork():
        for _ in range(1_000):
            early.error("away")
        quiet_logging.finish()
        os._exit(0)
for each in threads:
    each.join()
for _ in range(5):
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
""")

    by_process = {
        process: counted([line for line in lines if line["process"] == process])
        for process in {line["process"] for line in lines}
    }
    assert sorted(by_process.values()) == [1_000] * 5 + [61_000]
