"""Places in the code where a test may make the process die, hang or fail: `failpoint.hit("drain.committed")`.

    FAILPOINT=drain.committed:kill@3     the third time that a process comes by, it is gone, as by kill -9
    FAILPOINT=drain.committed:raise      each time, a FailpointReached is raised
    FAILPOINT=drain.committed:sleep@1    the first time, the thread hangs until somebody ends its process
    FAILPOINT=drain.committed:stop@1     the first time, the process hangs until somebody sends it SIGCONT

Several are separated by commas. Unset, a hit is one look into an empty dictionary.
"""

import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass

#: Seconds of one nap of a process that hangs, as if it slept for ever.
NAP_SECONDS = 3600


class FailpointReached(Exception):
    """Raised where `raise` was asked for."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What happens at a place, and at which visit; 0: at each."""

    action: str
    visit: int = 0


def parse(text: str) -> dict[str, Failpoint]:
    """Places and what happens there. Raises ValueError for what is no failpoint."""
    found = {}
    for part in filter(None, text.split(",")):
        place, colon, rest = part.partition(":")
        action, _, visit = rest.partition("@")
        if not colon or action not in ("kill", "raise", "sleep", "stop") or not (visit or "0").isdigit():
            raise ValueError(f"no failpoint: {part!r}")
        found[place] = Failpoint(action, int(visit or 0))
    return found


_set = parse(os.environ.get("FAILPOINT", ""))
_visits: Counter[str] = Counter()


def hit(place: str) -> None:
    """Come by. Nothing happens unless FAILPOINT names this place."""
    if place in _set:
        _visits[place] += 1
        _act(place, _set[place])


def _act(place: str, failpoint: Failpoint) -> None:
    if failpoint.visit not in (0, _visits[place]):
        return
    match failpoint.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise FailpointReached(place)
        case "sleep":
            threading.Event().wait(NAP_SECONDS)
