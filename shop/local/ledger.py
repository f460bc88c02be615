"""up.json: which processes run now, so that a start after `kill -9` of the supervisor knows what it left behind."""

import json
import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from shop.local.identity import is_alive
from shop.local.state import write_whole


@dataclass(frozen=True)
class Entry:
    """One process. `born` tells it from a stranger that was given the same pid later."""

    name: str
    pid: int
    born: str
    command: list[str]
    socket: str = ""
    stop_signal: int = signal.SIGTERM

    def lives(self) -> bool:
        return is_alive(self.pid, self.born)


def write(path: Path, entries: Iterable[Entry]) -> None:
    write_whole(path, json.dumps([asdict(entry) for entry in entries], indent=1) + "\n")


def left_over(path: Path) -> list[Entry]:
    """What an earlier supervisor started and what still runs, in the order of its start.

    A file that makes no sense means nothing is known; nothing is signalled on a guess.
    """
    try:
        entries = [Entry(**entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [entry for entry in entries if entry.lives()]
