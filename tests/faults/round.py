"""One round: a sale under load, somebody dies or hangs at a named step, everything heals, and the books are read."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.crowd import eventually
from tests.faults import cast, judge
from tests.faults.history import History
from tests.faults.world import Process, World, end, stopped

#: Seconds that shoppers shop: a few hundred clicks.
SHOPPING_SECONDS = 1.2
#: Seconds until everything must be quiet again, on a slow and busy machine.
QUIET_SECONDS = 30.0
#: Seconds that somebody hangs: longer than CLAIM_AFTER_SECONDS, so that others take over what he had begun.
HANGING_SECONDS = 1.3
#: Seconds between two looks of the director.
LOOK_SECONDS = 0.05
#: Seconds to pay in a round in which holds run out.
SHORT_HOLD_SECONDS = 1

#: Steps of a worker at which it dies or hangs.
WORKER_STEPS = [
    *("drain.read", "drain.uncommitted", "drain.committed", "drain.told", "drain.acknowledged"),
    *("settle.asked", "settle.told", "end.uncommitted"),
]
#: Steps of a recovery; Redis loses everything in such a round.
RECOVERY_STEPS = ["recovery.begun", "recovery.counted", "recovery.filled"]
STAFF_STEPS = ["change.asked", "change.moved"]
SHOPPER_STEPS = ["reserve.asked", "reserve.answered", "end.uncommitted"]
#: What happens to a server or a process at a random moment.
BLOWS = [
    *("redis-stock is killed", "redis-stock hangs", "postgresql is killed", "postgresql hangs"),
    *("a backend of postgresql is killed", "a worker is killed", "a worker hangs", "a crowd is killed"),
]
PLOTS = [
    *[f"worker at {step}" for step in WORKER_STEPS],
    *[f"recovery at {step}" for step in RECOVERY_STEPS],
    *[f"staff at {step}" for step in STAFF_STEPS],
    *[f"shopper at {step}" for step in SHOPPER_STEPS],
    *BLOWS,
]


@dataclass
class Terms:
    """What the round's sale is: fewer units than its buyers may have, even when all go back on sale once."""

    buyers: int
    quantity: int
    limit: int
    hold: int


@dataclass
class Round:
    """Everything is drawn from the seed; the plot is the main thing that happens."""

    world: World
    seed: int
    plot: str
    processes: list[Process] = field(default_factory=list)
    stopped_since: dict[Process, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.choice = Random(self.seed)
        self.terms = Terms(
            buyers=self.choice.randint(10, 40),
            quantity=self.choice.randint(5, 40),
            limit=self.choice.randint(1, 3),
            hold=SHORT_HOLD_SECONDS if "end.uncommitted" in self.plot or self.choice.random() < 0.3 else 3_600,
        )
        self.changes = [self.choice.choice([-3, -1, 1, 2, 5]) for _ in range(4)]
        self.blows = [(self.choice.uniform(0.1, SHOPPING_SECONDS * 0.8), blow) for blow in self._drawn_blows()]

    def _drawn_blows(self) -> list[str]:
        main = [self.plot] if self.plot in BLOWS else []
        loss = ["everything is forgotten"] if self.plot.startswith("recovery") else []
        also = [self.choice.choice(BLOWS)] if self.choice.random() < 0.5 else []
        return [*loss, *main, *also]

    def __str__(self) -> str:
        return f"{self.plot}; {self.terms}; staff {self.changes}; " + ", ".join(
            f"{blow} after {at:.2f} s" for at, blow in self.blows
        )

    def play(self) -> list[str]:
        """All complaints about what is left when everything is quiet again."""
        try:
            return self._play()
        finally:
            for process in self.processes:
                end(process)
            for path in self._histories:
                path.unlink(missing_ok=True)

    def _play(self) -> list[str]:
        slug = f"round-{time.monotonic_ns()}"
        self.offer_id, self.buyer_ids = self.world.call(
            cast.open_sale, slug, self.terms.buyers, self.terms.quantity, self.terms.limit, self.terms.hold
        )
        self._raise_the_curtain()
        while any(crowd.is_alive() for crowd in self.crowds):
            self._direct()
        self.world.heal()
        return self._epilogue()

    # The cast

    def _raise_the_curtain(self) -> None:
        self.workers = [self._worker(number, self._failpoint("worker", "recovery")) for number in (0, 1)]
        self.crowds = [self._crowd(number) for number in (0, 1)]
        self.staff = self._staff(self._failpoint("staff"))
        self.started_at = time.monotonic()

    def _failpoint(self, *whose: str) -> str:
        """FAILPOINT of a process: where and how the plot makes it die or hang, and at which visit."""
        who, _, step = self.plot.partition(" at ")
        if who not in whose or not step:
            return ""
        action = "kill" if who in ("staff", "shopper") else self.choice.choice(["kill", "stop"])
        often = step.startswith(("drain", "settle", "reserve"))
        return f"{step}:{action}@{self.choice.randint(1, 4 if often else 1)}"

    def _start(self, part: Callable[..., None], *arguments: Any, failpoint: str = "") -> Process:
        process = self.world.start(part, *arguments, failpoint=failpoint)
        self.processes.append(process)
        return process

    def _worker(self, number: int, failpoint: str = "") -> Process:
        return self._start(cast.worker, f"slot-{number}", failpoint=failpoint)

    def _crowd(self, number: int) -> Process:
        history = str(self._histories[number])
        arguments = (history, self.offer_id, self.buyer_ids, self.terms.limit, f"{self.seed}-{number}")
        failpoint = self._failpoint("shopper") if number == 0 else ""
        return self._start(cast.shoppers, *arguments, SHOPPING_SECONDS, failpoint=failpoint)

    def _staff(self, failpoint: str = "") -> Process:
        return self._start(cast.staff, self.offer_id, f"{self.seed}-{self.offer_id}", self.changes, failpoint=failpoint)

    @property
    def _histories(self) -> list[Path]:
        return [self.world.state.path / f"history-{number}" for number in (0, 1)]

    # What happens

    def _direct(self) -> None:
        for at, blow in self.blows[:]:
            if time.monotonic() > self.started_at + at:
                self.blows.remove((at, blow))
                self._strike(blow)
        self._look_after_the_cast()
        time.sleep(LOOK_SECONDS)

    def _strike(self, blow: str) -> None:
        worker = self.choice.choice(self.workers)
        match blow.split():
            case ["everything", *_]:
                self.world.forget_stock()
            case ["a", "backend", *_]:
                self.world.kill_a_backend(self.choice.choice)
            case ["a", "worker", "is", "killed"]:
                end(worker)
            case ["a", "worker", "hangs"]:
                self.world.signal(worker, signal.SIGSTOP)
            case ["a", "crowd", *_]:
                end(self.crowds[0])
            case [server, "hangs"]:
                self.world.stop_for(server, HANGING_SECONDS)
            case [server, *_]:
                self.world.kill(server)

    def _look_after_the_cast(self) -> None:
        """A dead worker is replaced, staff asks again for what it was not told, and who hangs goes on after a while."""
        for number, worker in enumerate(self.workers):
            if not worker.is_alive():
                self._check_death(worker)
                self.workers[number] = self._worker(number)
        if not self.staff.is_alive() and self.staff.exitcode:
            self._check_death(self.staff)
            self.staff = self._staff()
        self._wake_who_hung()

    def _check_death(self, process: Process) -> None:
        assert process.exitcode == -signal.SIGKILL, f"ended with {process.exitcode}\n{self.world.last_words()}"

    def _wake_who_hung(self) -> None:
        for process in stopped([*self.workers, self.staff, *self.crowds]):
            since = self.stopped_since.setdefault(process, time.monotonic())
            if time.monotonic() > since + HANGING_SECONDS:
                del self.stopped_since[process]
                self.world.signal(process, signal.SIGCONT)

    # What is left

    def _epilogue(self) -> list[str]:
        for crowd in self.crowds:
            crowd.join()
            assert crowd.exitcode in (0, -signal.SIGKILL), f"a crowd failed\n{self.world.last_words()}"
        history = History.read(self._histories)
        self._buyers_come_back(history)
        self._until(lambda: not self.staff.is_alive() and judge.is_quiet(self.world, self.offer_id))
        heard = self._buyers_come_back(history)
        wrong = judge.complaints(self.world, self.offer_id, self.terms.limit, history, heard)
        wrong += self.world.call(cast.findings, self.offer_id)
        self.world.call(cast.close_sale, self.offer_id)
        return wrong

    def _buyers_come_back(self, history: History) -> dict[str, str]:
        """Whoever holds a receipt polls until something is said; answers what. Killed browsers are opened again."""
        returning = self.world.begin(cast.come_back, history.receipts)
        self._until(returning.is_done)
        return dict(returning.result())

    def _until(self, condition: Callable[[], bool]) -> None:
        def looked_after() -> bool:
            self._look_after_the_cast()
            return condition()

        eventually(looked_after, QUIET_SECONDS)
