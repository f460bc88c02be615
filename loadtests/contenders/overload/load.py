"""What is asked of a server, as a value that a client in a process of its own takes; and what that client saw."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from loadtests.contenders.overload.processors import CLIENT
from shop.local.tools import CHECKOUT

#: Seconds beyond the stages in which the client must have ended: its start, its schedule, and its patience of 2 s.
OVERTIME_SECONDS = 60
#: The client was late by more than this at its 99th percentile: its latencies are no longer the server's alone.
DOUBTFUL_MS = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one importance, this share of all; they are sent in turn."""

    importance: int
    share: float
    requests: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stage:
    """So many requests a second, whatever becomes of them."""

    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Stages follow each other. With `closed`, so many clients wait for their answers instead, at no rate."""

    port: int
    kinds: Sequence[Kind]
    stages: Sequence[Stage]
    seed: int
    closed: int = 0
    connections_maximum: int = 2_000
    processor: int = CLIENT


@dataclass(frozen=True, slots=True)
class Count:
    """What became of requests of one importance: each of `offered` is one of the others."""

    offered: int = 0
    #: 2xx within the time in which a person still waits.
    good: int = 0
    #: 2xx later than that.
    late: int = 0
    #: 503.
    refused: int = 0
    #: Any other status.
    other: int = 0
    #: No answer in two seconds, or a connection that broke.
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Waits:
    """Milliseconds from the moment at which a request was to be sent."""

    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw of the requests of one stage."""

    stage: Stage
    counts: dict[int, Count]
    served: Waits
    refused: Waits
    #: How often each status came that is neither a good answer nor a refusal.
    other_statuses: dict[int, int] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return self.total("good") / self.stage.seconds

    def total(self, what: str) -> int:
        return sum(getattr(count, what) for count in self.counts.values())

    def share(self, what: str, importance: int) -> float:
        """Of the requests of this importance; nothing was missed where nothing was offered."""
        count = self.counts[importance]
        return float(getattr(count, what) / count.offered) if count.offered else 1.0


@dataclass(frozen=True, slots=True)
class Report:
    stages: list[Seen] = field(default_factory=list)
    #: How late the client itself was, at its 99th percentile.
    client_late_ms: float = 0.0
    #: It had its processor to itself, and not the server's.
    pinned: bool = False

    @property
    def doubtful(self) -> bool:
        return self.client_late_ms > DOUBTFUL_MS


def offer(load: Load) -> Report:
    """Send all that in another process, which ends with it. Raises RuntimeError when it fails."""
    seconds = sum(stage.seconds for stage in load.stages)
    ran = subprocess.run(
        [sys.executable, "-m", "loadtests.contenders.overload.open_loop"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=seconds + OVERTIME_SECONDS,
    )
    if ran.returncode:
        raise RuntimeError(f"the client of the load failed:\n{ran.stderr}")
    return report_of(json.loads(ran.stdout))


def load_of(told: dict) -> Load:
    kinds = [Kind(**kind) for kind in told.pop("kinds")]
    stages = [Stage(**stage) for stage in told.pop("stages")]
    return Load(kinds=kinds, stages=stages, **told)


def report_of(told: dict) -> Report:
    return Report([_seen(**stage) for stage in told.pop("stages")], **told)


def _seen(stage: dict, counts: dict, served: dict, refused: dict, other_statuses: dict) -> Seen:
    by_importance = {int(importance): Count(**count) for importance, count in counts.items()}
    others = {int(status): number for status, number in other_statuses.items()}
    return Seen(Stage(**stage), by_importance, Waits(**served), Waits(**refused), others)
