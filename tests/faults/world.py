"""A shop without pages, to be broken: servers of its own that are started again when they die, and processes on them.

Every process is a real one with a pid of its own. It is forked, in some twenty milliseconds, from one that has
imported Django and knows this world's servers and no others; `tests.faults.cast` holds what it may do.
"""

import multiprocessing
import os
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import psycopg
import redis

from shop.local import supervisor as supervisor_module
from shop.local.accounts import shared_temp
from shop.local.servers import start_all
from shop.local.state import State
from shop.local.supervisor import Supervisor
from tests.crowd import PATIENCE_SECONDS, eventually
from tests.faults import cast
from tests.fork_servers import ForkServer
from tests.servers import PREFIX, TEST_VARIABLES, clean_environment

#: Seconds of a pause before a dead server is started again, and of the memory of such deaths: none, because here
#: they die as often as they are told to.
RESTART_PAUSE_SECONDS = 0.01
#: Seconds a process may take to be gone after SIGKILL.
GONE_SECONDS = 5.0

#: Short times, so that a round of faults takes seconds.
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "shop.settings",
    "CLAIM_AFTER_SECONDS": "1",
    "CLAIM_WINDOW_SECONDS": "1",
    "EVENTS_KEPT_SECONDS": "0",
    "PAYMENT_GRACE_SECONDS": "0",
}

CHECKOUT = Path(__file__).parents[2]

Process = multiprocessing.context.ForkServerProcess


class World:
    """`with World() as world:` Its servers run, its database is migrated."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._stopping = threading.Event()
        self._context = multiprocessing.get_context("forkserver")
        self._forks = ForkServer(["__main__", "tests.faults.cast"])

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.state = State(shared_temp() / f"{PREFIX}{secrets.token_hex(4)}")
            opened.callback(self.state.remove)
            opened.enter_context(self.state.locked())
            supervisor = Supervisor(self.state, lambda _: None, self._stopping.is_set)
            self._servers = start_all(
                self.state, lambda _: None, durable=False, supervisor=supervisor, environ=clean_environment()
            )
            opened.callback(self._servers.stop)
            opened.enter_context(self._watched(supervisor))
            self._keep_commits()
            opened.enter_context(self._forkserver())
            self.call(cast.migrate)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @contextmanager
    def _watched(self, supervisor: Supervisor) -> Iterator[None]:
        """The supervisor starts again what dies, and never tires of it."""
        with (
            mock.patch.object(supervisor_module, "FIRST_PAUSE_SECONDS", RESTART_PAUSE_SECONDS),
            mock.patch.object(supervisor_module, "RESTART_WINDOW_SECONDS", 0.0),
        ):
            thread = threading.Thread(target=supervisor.watch, name="supervisor", daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                thread.join(PATIENCE_SECONDS)

    def _keep_commits(self) -> None:
        """PostgreSQL runs without fsync here; this makes kill -9 lose no commit, and only a power cut could."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("ALTER DATABASE shop SET synchronous_commit = on")

    @contextmanager
    def _forkserver(self) -> Iterator[None]:
        """The process that all others are forked from. It sees this world's variables and nobody else's."""
        with mock.patch.dict(os.environ, self._variables(), clear=True):
            self._forks.run()
        try:
            yield
        finally:
            for process in multiprocessing.active_children():
                if isinstance(process, Process):
                    end(process)  # it may hang, where nothing else reaches it
            self._forks.stop()

    def _variables(self) -> Mapping[str, str]:
        return {
            **clean_environment(),
            "PYTHONPATH": str(CHECKOUT),
            **TEST_VARIABLES,
            **SETTINGS,
            **self._servers.environment,
            **self.state.generated_secrets(),
            "STATE": str(self.state.path),
        }

    # Processes

    def start(self, part: Callable[..., None], *arguments: Any, failpoint: str = "") -> Process:
        """A process that plays this part, with FAILPOINT set for it."""
        process = self._context.Process(
            target=cast.play, args=(str(self.log), failpoint, part, *arguments), daemon=True
        )
        self._forks.start(process)
        return process

    def begin(self, work: Callable[..., Any], *arguments: Any) -> "Errand":
        """A process that does some work, whose result is asked for later."""
        here, there = self._context.Pipe(duplex=False)
        process = self.start(cast.answer, there, work, *arguments)
        there.close()
        return Errand(process, here, self)

    def call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What the work returns, done by a process. Fails when it does not come to an end."""
        return self.begin(work, *arguments).result()

    def signal(self, process: Process, number: int) -> None:
        if process.is_alive() and process.pid:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    @property
    def log(self) -> Path:
        """Where all processes write what they have to say."""
        return self.state.log / "cast.log"

    def last_words(self) -> str:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return "\n".join(lines[-60:])

    # Servers

    @property
    def database(self) -> str:
        return self._servers.environment["DATABASE_URL"]

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What PostgreSQL answers, over a connection of its own."""
        with psycopg.connect(self.database, autocommit=True, connect_timeout=2) as connection:
            answer = connection.execute(sql, arguments)
            return answer.fetchall() if answer.description else []

    @property
    def stock_redis(self) -> redis.Redis:
        """A connection of the test's own, to look behind the curtain."""
        return redis.Redis.from_url(self._servers.environment["STOCK_REDIS_URL"], decode_responses=True)

    def kill(self, name: str) -> None:
        """kill -9 on a server; it is started again, with its data."""
        with suppress(KeyError, ProcessLookupError):  # it is dead at this moment
            os.kill(self._servers.pid(name), signal.SIGKILL)

    def kill_a_backend(self, choose: Callable[[list[int]], int]) -> None:
        """kill -9 on one process of PostgreSQL: it ends all others, recovers, and goes on."""
        backends = self._family("postgresql")[1:]
        if backends:
            with suppress(ProcessLookupError):
                os.kill(choose(backends), signal.SIGKILL)

    def stop_for(self, name: str, seconds: float) -> None:
        """The server hangs so long, with all its processes."""
        family = self._family(name)
        for number, wait in ((signal.SIGSTOP, seconds), (signal.SIGCONT, 0.0)):
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            self._stopping.wait(wait)

    def forget_stock(self) -> None:
        """FLUSHALL: stock Redis goes on, and knows nothing."""
        with suppress(redis.RedisError):
            self.stock_redis.flushall()

    def lose_stock_disk(self) -> None:
        """kill -9, and its data are gone from the disk."""
        [folder] = {Path(value) for value in self.stock_redis.config_get("dir").values()}
        for thing in folder.iterdir():
            shutil.rmtree(thing) if thing.is_dir() else thing.unlink()
        self.kill("redis-stock")

    def _family(self, name: str) -> list[int]:
        try:
            parent = self._servers.pid(name)
        except KeyError:
            return []
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [line.split() for line in shown.splitlines()]
        return [parent, *(int(pid) for pid, its_parent in pairs if int(its_parent) == parent)]

    def answers(self) -> bool:
        """Both stores can be asked."""
        try:
            return bool(self.rows("SELECT 1")) and bool(self.stock_redis.ping())
        except (psycopg.Error, redis.RedisError):
            return False

    def heal(self) -> None:
        eventually(self.answers)


class Errand:
    """Work that a process does meanwhile."""

    def __init__(self, process: Process, here: Connection, world: World) -> None:
        self.process = process
        self._here = here
        self._world = world

    def is_done(self) -> bool:
        return self._here.poll()

    def result(self, seconds: float = PATIENCE_SECONDS * 2) -> Any:
        """Fails when the process does not answer in time, or has failed."""
        try:
            assert self._here.poll(seconds), f"an errand does not end\n{self._world.last_words()}"
            return self._here.recv()
        except EOFError:
            raise AssertionError(f"an errand failed\n{self._world.last_words()}") from None
        finally:
            end(self.process)


def end(process: Process) -> None:
    """kill -9, unless it has ended; returns when it is gone."""
    process.kill()
    process.join(GONE_SECONDS)


def stopped(processes: Iterable[Process]) -> list[Process]:
    """Those that a SIGSTOP has reached."""
    alive = {process.pid: process for process in processes if process.is_alive()}
    if not alive:
        return []
    command = ["ps", "-o", "pid=,stat=", "-p", ",".join(map(str, alive))]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    pairs = [line.split() for line in shown.splitlines()]
    return [alive[int(pid)] for pid, state in pairs if state.startswith("T")]
