"""What happens in a round: the sale, who dies or hangs at which step, and which blows fall when, all from one seed."""

from dataclasses import dataclass, field
from random import Random

#: Seconds that shoppers shop: a few hundred clicks.
SHOPPING_SECONDS = 1.2
#: Seconds to pay in a round in which holds run out, and in one in which they do not.
SHORT_HOLD_SECONDS, LONG_HOLD_SECONDS = 1, 3_600

#: Steps of a worker at which it dies or hangs.
WORKER_STEPS = [
    *("drain.read", "drain.uncommitted", "drain.committed", "drain.told", "drain.acknowledged"),
    *("settle.asked", "settle.told", "end.uncommitted"),
]
#: Steps of a recovery; Redis loses everything in such a round.
RECOVERY_STEPS = ["recovery.begun", "recovery.counted", "recovery.filled"]
STAFF_STEPS = ["change.asked", "change.moved"]
SHOPPER_STEPS = ["reserve.asked", "reserve.answered", "end.uncommitted"]
#: Steps that are come by again and again: which visit is the fatal one is drawn, too.
BUSY_STEPS = ("drain", "settle", "reserve")

#: What stock Redis may lose in mid-sale.
LOSSES = ["everything is forgotten", "the disk is lost"]
#: What happens to a server or a process at a random moment.
BLOWS = [
    *("redis-stock is killed", "redis-stock hangs", "postgresql is killed", "postgresql hangs"),
    *("a backend is killed", "a worker is killed", "a worker hangs", "a crowd is killed"),
]
#: The main thing that happens in a round.
PLOTS = [
    *[f"worker at {step}" for step in WORKER_STEPS],
    *[f"recovery at {step}" for step in RECOVERY_STEPS],
    *[f"staff at {step}" for step in STAFF_STEPS],
    *[f"shopper at {step}" for step in SHOPPER_STEPS],
    *BLOWS,
]


@dataclass(frozen=True)
class Terms:
    """The sale, with fewer units than its buyers would take."""

    buyers: int
    quantity: int
    limit: int
    hold: int


@dataclass
class Script:
    seed: int
    plot: str
    terms: Terms
    #: FAILPOINT of the processes that play these parts: worker, staff, shopper.
    failpoints: dict[str, str] = field(default_factory=dict)
    #: Seconds after the start, and what happens then.
    blows: list[tuple[float, str]] = field(default_factory=list)
    #: Units that staff adds or takes away.
    changes: list[int] = field(default_factory=list)
    #: What shoppers do with a placed order, drawn for each.
    endings: tuple[str, ...] = ("pay", "pay", "cancel", "cancel", "forget")


def drawn(seed: int) -> Script:
    """Plots take turns from seed to seed; the rest is drawn."""
    choice, plot = Random(seed), PLOTS[seed % len(PLOTS)]
    runs_out = "end.uncommitted" in plot or choice.random() < 0.3
    return Script(
        seed,
        plot,
        Terms(
            buyers=choice.randint(10, 40),
            quantity=choice.randint(5, 40),
            limit=choice.randint(1, 3),
            hold=SHORT_HOLD_SECONDS if runs_out else LONG_HOLD_SECONDS,
        ),
        _failpoints(plot, choice),
        _blows(plot, choice),
        changes=[choice.choice([-3, -1, 1, 2, 5]) for _ in range(4)],
    )


def _failpoints(plot: str, choice: Random) -> dict[str, str]:
    who, at, step = plot.partition(" at ")
    if not at:
        return {}
    # Staff and shoppers are people at browsers: the process that serves them dies, and they come again.
    action = choice.choice(["kill", "stop"]) if who in ("worker", "recovery") else "kill"
    visit = choice.randint(1, 4) if step.startswith(BUSY_STEPS) else 1
    return {"worker" if who == "recovery" else who: f"{step}:{action}@{visit}"}


def _blows(plot: str, choice: Random) -> list[tuple[float, str]]:
    main = [plot] if plot in BLOWS else []
    loss = [choice.choice(LOSSES)] if plot.startswith("recovery") else []
    also = [choice.choice(BLOWS)] if choice.random() < 0.5 else []
    return [(round(choice.uniform(0.1, SHOPPING_SECONDS * 0.8), 2), blow) for blow in [*loss, *main, *also]]
