"""How things are broken in a drill: each as a value that strikes, and heals what does not heal by itself."""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.drills.proving_ground import ProvingGround
from loadtests.evidence import Witness
from tests.faults.faults import Latency

#: Seconds for which a killer waits for a batch to be under way.
BATCH_SECONDS = 3.0
#: Seconds between two looks at whether one is.
LOOK_SECONDS = 0.002


@dataclass(frozen=True)
class Blow:
    """Strikes at the ground; `heal` undoes it. What was killed is started again by its supervisor, as in real life."""

    strike: Callable[[ProvingGround, Witness], object]
    heal: Callable[[ProvingGround], object] = lambda ground: None


def killed(*names: str) -> Blow:
    return Blow(lambda ground, _: [ground.kill(name) for name in names])


def hung(name: str) -> Blow:
    """Takes connections and requests, and answers nothing."""
    return Blow(
        lambda ground, _: ground.signal(name, signal.SIGSTOP), lambda ground: ground.signal(name, signal.SIGCONT)
    )


def slowed(name: str, ms: float) -> Blow:
    """Each answer comes so much later."""
    return Blow(lambda ground, _: ground.break_the_way_to(name, Latency(down_ms=ms)), lambda ground: ground.heal())


def emptied() -> Blow:
    return Blow(lambda ground, _: ground.empty_stock_redis())


def read_only() -> Blow:
    return Blow(lambda ground, _: ground.set_read_only(True), lambda ground: ground.set_read_only(False))


def provider(**faults: int | bool) -> Blow:
    return Blow(lambda ground, _: ground.set_provider(json.dumps(faults)), lambda ground: ground.set_provider("{}"))


def killed_in_mid_batch(name: str) -> Blow:
    """The worker dies while events wait for it."""

    def strike(ground: ProvingGround, witness: Witness) -> None:
        deadline = time.monotonic() + BATCH_SECONDS
        while witness.sample().waiting == 0 and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        ground.kill(name)

    return Blow(strike)


def nothing() -> Blow:
    return Blow(lambda ground, _: None)
