"""The ways this provider can be told to misbehave, as outside companies do."""

from dataclasses import asdict, dataclass
from typing import Self

from .provider_requests import BadValue, Check, checked, is_whole

#: The slowest API answer in milliseconds: longer than any client should wait.
MAX_SLOW_MS = 60_000

#: Copies of one callback: enough to meet every race, few enough to end.
MAX_REPEAT = 100

#: The longest a callback is held in milliseconds: beyond the hour after which it would be given up anyway.
MAX_HOLD_MS = 2 * 60 * 60 * 1000


@dataclass(frozen=True)
class Faults:
    """All faults at once; a healthy provider is `Faults()`."""

    #: Each answer of the API comes this much later, after its work is done.
    slow_ms: int = 0
    #: The API answers 503 and does nothing.
    refuse: bool = False
    #: Each callback arrives so many times.
    repeat: int = 1
    #: Callbacks are gathered for a moment and sent newest first.
    reorder: bool = False
    #: Each callback leaves so much later, for instance when the order has expired.
    hold_callbacks_ms: int = 0
    #: Callbacks vanish for good, and the provider believes that they arrived.
    drop_callbacks: bool = False

    @classmethod
    def parse(cls, values: object) -> Self:
        """The faults named here and no others; `BadValue` for unknown names and impossible values."""
        if not isinstance(values, dict):
            raise BadValue("a JSON object is expected")
        return cls(**checked(asdict(cls()) | values, CHECKS))


def _whole(low: int, high: int) -> Check:
    return lambda value: is_whole(value, low, high), f"an integer from {low} to {high}"


SWITCH: Check = (lambda value: isinstance(value, bool), "true or false")

CHECKS: dict[str, Check] = {
    "slow_ms": _whole(0, MAX_SLOW_MS),
    "refuse": SWITCH,
    "repeat": _whole(1, MAX_REPEAT),
    "reorder": SWITCH,
    "hold_callbacks_ms": _whole(0, MAX_HOLD_MS),
    "drop_callbacks": SWITCH,
}
