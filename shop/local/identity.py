"""Which process is meant: its pid and when it was born. A pid alone may belong to a stranger by now."""

import os
import subprocess
from pathlib import Path

#: Place of the state (R, S, Z ...) and of the start time in /proc/<pid>/stat, counted after the command's name.
STATE_FIELD, START_FIELD = 0, 19
#: Seconds that `ps` may take where there is no /proc.
PS_SECONDS = 5


def birth(pid: int) -> str:
    """When the process was born, in the words of this system; empty when it has ended, reaped by its parent or not."""
    if Path("/proc/self/stat").exists():
        return _birth_by_proc(pid)
    return _birth_by_ps(pid)


def _birth_by_proc(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    # The command's name stands in parentheses and may contain any of the characters that separate the fields.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[STATE_FIELD] in "ZX" else fields[START_FIELD]


def _birth_by_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(
        command, env={"PATH": os.defpath, "LC_ALL": "C"}, capture_output=True, text=True, timeout=PS_SECONDS
    )
    state, _, born = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else born.strip()


def is_alive(pid: int, born: str) -> bool:
    """Whether exactly this process still runs."""
    return born != "" and birth(pid) == born
