"""A round on the stage: the sale runs under load, the script strikes, everything heals, and the books are read."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.crowd import eventually
from tests.faults import cast, judge
from tests.faults.history import History
from tests.faults.script import SHOPPING_SECONDS, Script
from tests.faults.world import Process, World, end, stopped

#: Seconds until everything must be quiet again, on a slow and busy machine.
QUIET_SECONDS = 30.0
#: Seconds that somebody hangs: longer than CLAIM_AFTER_SECONDS, so that others take over what he had begun.
HANGING_SECONDS = 1.3
#: Seconds between two looks at who has died.
LOOK_SECONDS = 0.05
#: Processes of each kind: one may die while the other goes on.
WORKERS = CROWDS = 2


class Stage:
    """One round. After `play`, `history` is what the clients saw."""

    def __init__(self, world: World, script: Script) -> None:
        self.world, self.script = world, script
        self.history = History()
        self.offer_id = 0
        self._processes: list[Process] = []
        self._hang_since: dict[Process, float] = {}
        self._random = Random(script.seed)

    def play(self) -> list[str]:
        """All complaints about what is left when everything is quiet again."""
        try:
            self._raise_the_curtain()
            while any(crowd.is_alive() for crowd in self._crowds):
                self._strike_what_is_due()
                self._look_after_the_cast()
                time.sleep(LOOK_SECONDS)
            self.world.heal()
            return self._read_the_books()
        finally:
            for process in self._processes:
                end(process)
            for path in self._histories:
                path.unlink(missing_ok=True)

    # The cast

    def _raise_the_curtain(self) -> None:
        terms = self.script.terms
        sale = (f"round-{time.monotonic_ns()}", terms.buyers, terms.quantity, terms.limit, terms.hold)
        self.offer_id, self._buyer_ids = self.world.call(cast.open_sale, *sale)
        points = self.script.failpoints
        self._workers = [self._worker(number, points.get("worker", "")) for number in range(WORKERS)]
        self._crowds = [self._crowd(number, points.get("shopper", "")) for number in range(CROWDS)]
        self._staff = self._staff_member(points.get("staff", ""))
        self._blows = list(self.script.blows)
        self._started_at = time.monotonic()

    def _start(self, part: Callable[..., None], *arguments: Any, failpoint: str) -> Process:
        process = self.world.start(part, *arguments, failpoint=failpoint)
        self._processes.append(process)
        return process

    def _worker(self, number: int, failpoint: str = "") -> Process:
        return self._start(cast.worker, f"slot-{number}", failpoint=failpoint)

    def _crowd(self, number: int, failpoint: str) -> Process:
        wishes = (self.offer_id, self._buyer_ids, self.script.terms.limit, self.script.endings)
        how = (f"{self.script.seed}-{number}", SHOPPING_SECONDS)
        return self._start(
            cast.shoppers, str(self._histories[number]), *wishes, *how, failpoint=failpoint if number == 0 else ""
        )

    def _staff_member(self, failpoint: str = "") -> Process:
        name = f"{self.script.seed}-{self.offer_id}"
        return self._start(cast.staff, self.offer_id, name, self.script.changes, failpoint=failpoint)

    @property
    def _histories(self) -> list[Path]:
        return [self.world.state.path / f"history-{number}" for number in range(CROWDS)]

    # What happens

    def _strike_what_is_due(self) -> None:
        now = time.monotonic() - self._started_at
        due = [blow for at, blow in self._blows if at <= now]
        self._blows = [(at, blow) for at, blow in self._blows if at > now]
        for blow in due:
            self._strike(blow)

    def _strike(self, blow: str) -> None:
        worker = self._random.choice(self._workers)
        match blow:
            case "everything is forgotten":
                self.world.forget_stock()
            case "the disk is lost":
                self.world.lose_stock_disk()
            case "a backend is killed":
                self.world.kill_a_backend(self._random.choice)
            case "a worker is killed":
                end(worker)
            case "a worker hangs":
                self.world.signal(worker, signal.SIGSTOP)
            case "all workers hang":
                for each in self._workers:
                    self.world.signal(each, signal.SIGSTOP)
            case "a crowd is killed":
                end(self._crowds[0])
            case "redis-stock hangs" | "postgresql hangs":
                self.world.stop_for(blow.split()[0], HANGING_SECONDS)
            case "redis-stock is killed" | "postgresql is killed":
                self.world.kill(blow.split()[0])
            case _:
                raise ValueError(f"nobody knows how to do this: {blow}")

    def _look_after_the_cast(self) -> None:
        """The dead are replaced, staff asks again for what it was not told, and who hangs goes on after a while."""
        for number, worker in enumerate(self._workers):
            if not worker.is_alive():
                self._check_death(worker)
                self._workers[number] = self._worker(number)
        if not self._staff.is_alive() and self._staff.exitcode:
            self._check_death(self._staff)
            self._staff = self._staff_member()
        for process in stopped([*self._workers, *self._crowds, self._staff]):
            since = self._hang_since.setdefault(process, time.monotonic())
            if time.monotonic() > since + HANGING_SECONDS:
                del self._hang_since[process]
                self.world.signal(process, signal.SIGCONT)

    def _check_death(self, process: Process) -> None:
        """By our hand, or by its failpoint's: whoever ends otherwise has found something to report."""
        assert process.exitcode == -signal.SIGKILL, f"ended with {process.exitcode}\n{self.world.last_words()}"

    # What is left

    def _read_the_books(self) -> list[str]:
        for crowd in self._crowds:
            crowd.join()
            assert crowd.exitcode in (0, -signal.SIGKILL), f"a crowd failed\n{self.world.last_words()}"
        self.history = History.read(self._histories)
        self._buyers_come_back()
        self._until(lambda: not self._staff.is_alive() and judge.is_quiet(self.world, self.offer_id))
        for worker in self._workers:
            end(worker)  # one that has not come by its failpoint yet shall not die of the checks
        heard = self.world.call(cast.come_back, self.history.receipts)

        wrong = judge.complaints(self.world, self.offer_id, self.script.terms.limit, self.history, heard)
        wrong += self.world.call(cast.findings, self.offer_id)
        wrong += self.world.call(cast.last_click, self.offer_id)
        self.world.call(cast.close_sale, self.offer_id)
        return wrong

    def _buyers_come_back(self) -> None:
        """Whoever holds a receipt polls until something is said. The browsers of killed processes are opened again."""
        returning = self.world.begin(cast.come_back, self.history.receipts)
        self._processes.append(returning.process)
        self._until(returning.is_done)
        returning.result()

    def _until(self, condition: Callable[[], bool]) -> None:
        def looked_after() -> bool:
            self._look_after_the_cast()
            return condition()

        try:
            eventually(looked_after, QUIET_SECONDS)
        except AssertionError as too_late:
            raise AssertionError(f"{too_late}: {self.script}\n{self.world.last_words()}") from None
