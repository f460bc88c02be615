"""What Locust runs: `locust -f loadtests/locustfile.py`, alone, with `--processes`, or on many machines.

`load.py` starts it and says where the plan, the cookies and the records are. Only the master reads them: it sends each
worker the plan and that worker's people, and gets its records back with Locust's own reports. So a worker on another
machine needs this checkout and nothing else.
"""

import gc
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import gevent
from gevent.threadpool import ThreadPool
from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests import records
from loadtests.arrivals import Part, Source
from loadtests.cheats import Crowd
from loadtests.contenders.overload.processors import many_connections
from loadtests.plan import Plan, shares
from loadtests.records import Record
from loadtests.shapes import SHAPES, sources

#: Seconds between two writes of what was recorded, where there is no master to report to.
WRITE_SECONDS = 0.5
#: Sources that are started a second: all of them at once, because a slow start makes Locust skip what follows.
SPAWN_RATE = 1_000
#: The message with which a worker gets its part.
PART = "part"


class People(Source):
    """Shoppers and cheats."""

    def herded(self, number: int, cookie: str, at: float, clicks_after: float) -> None:
        Crowd(self.part).person(number, cookie).live(at, clicks_after)

    def arrive(self, at: float, random: Random) -> None:
        if SHAPES[self.part.plan.shape].written:
            self.part.mix.send_one(at, random)
            return
        shopper = Crowd(self.part).person(*self.part.person())
        shopper.look(at)
        shopper.buy_until_sold_out(None)
        shopper.wire.close()


class ByPlan(LoadTestShape):
    """As many sources as the plan says for this moment."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        if (wanted := sources(_plan(), self.get_run_time())) is None:
            return None
        return wanted, SPAWN_RATE


def _plan() -> Plan:
    return Plan.of(Path(os.environ["LOAD_PLAN"]).read_text())


def _cookies() -> list[str]:
    """One a person; for a mix, what is asked."""
    text, plan = Path(os.environ["LOAD_COOKIES"]).read_text(), _plan()
    if SHAPES[plan.shape].written:
        return [json.dumps(kind) for kind in json.loads(text)]
    return text.split()[: plan.people]


def _beside(do: Callable[[list[Record]], Any], new: list[Record]) -> Any:
    """On another thread: neither a disk that the shop keeps busy nor a long list makes this client late."""
    return _one_thread().apply(do, (new,))


@cache
def _one_thread() -> ThreadPool:
    """Of this process: Locust forks its workers. One, because two who write would mix their lines."""
    return ThreadPool(1)


def _write(new: list[Record]) -> None:
    with Path(os.environ["LOAD_RECORDS"]).open("a") as file:
        file.write(records.lines(new))


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    many_connections()
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        _stand_alone()
        runner.register_message(PART, _take_part)
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(_fetched)
    if isinstance(runner, LocalRunner):
        gevent.spawn(_keep_writing)


def _stand_alone() -> None:
    """Be a session of one's own. Linux shares its processors fairly among sessions (autogroup in sched(7)), and each
    process of the shop is one: together with others in ours, this client would have a part of the share of one of them.
    """
    with suppress(PermissionError):  # started by hand, or by Locust on another machine: it is one, or leads its job
        os.setsid()


@events.test_start.add_listener
def _deal(environment: Environment, **_: Any) -> None:
    """Give everybody a part before the first source starts. What there is by then stays, and need not be looked at by
    each collection of garbage: that would be a pause which looks like the shop's."""
    gc.freeze()
    runner = environment.runner
    if not isinstance(runner, WorkerRunner):
        _begin()
    if isinstance(runner, LocalRunner):
        plan = _plan()
        Source.part = Part(plan, shares(_cookies(), 1)[0], sources(plan, 0) or 1, environment)
    elif isinstance(runner, MasterRunner):
        plan, workers = _plan(), list(runner.clients)
        each = (sources(plan, 0) or 1) // max(1, len(workers))
        for worker, people in zip(workers, shares(_cookies(), len(workers)), strict=True):
            told = {"plan": plan.as_json(), "people": people, "sources": each}
            runner.send_message(PART, told, client_id=worker)


def _begin() -> None:
    plan = _plan()
    if not SHAPES[plan.shape].herd:
        begun = plan.begun_at(time.time() * 1000 + plan.ahead_ms)
        Path(os.environ["LOAD_PLAN"]).write_text(begun.as_json())


def _take_part(environment: Environment, msg: Any, **_: Any) -> None:
    people = [(number, cookie) for number, cookie in msg.data["people"]]
    Source.part = Part(Plan.of(msg.data["plan"]), people, msg.data["sources"], environment)


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, Any]) -> None:
    if hasattr(Source, "part"):
        data["records"] = _beside(records.as_array, Source.part.book.taken())


def _fetched(client_id: str, data: dict[str, Any]) -> None:
    _write([Record(*each) for each in json.loads(data.get("records", "[]"))])


def _keep_writing() -> None:
    while True:
        gevent.sleep(WRITE_SECONDS)
        if hasattr(Source, "part"):
            _beside(_write, Source.part.book.taken())


@events.quitting.add_listener
def _write_the_rest(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, LocalRunner) and hasattr(Source, "part"):
        _beside(_write, Source.part.book.taken())
