"""A processor for the server and another for its client, so that neither takes the other's time.

    python -m loadtests.contenders.overload.processors 0 python -m granian ...

Linux alone can do it. Elsewhere, and with one processor, both go where the system puts them, and reports say so.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

#: Which of the processors that we may use.
SERVER, CLIENT = 0, 1
#: Ticks in a second of /proc's times.
TICKS = os.sysconf("SC_CLK_TCK")
#: Fields of /proc/<pid>/stat behind the name: parent, and ticks in the program and in the kernel.
PARENT, USER, SYSTEM = 1, 11, 12


def stay_on(processor: int) -> bool:
    """This thread and all that it starts from now on; False when that cannot be had."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        return False
    os.sched_setaffinity(0, {ours[processor % len(ours)]})
    return True


def move(pids: Iterable[int], processors: Sequence[int] | None) -> None:
    """All threads of these processes to these processors; None: to all that we may use."""
    if not hasattr(os, "sched_setaffinity"):
        return
    ours = sorted(os.sched_getaffinity(0))
    wanted = ours if processors is None else {ours[each % len(ours)] for each in processors}
    for pid in pids:
        with suppress(OSError):  # it has just ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), wanted)


def many_connections() -> None:
    """As many open files as this account may have: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def seconds_of(pid: int) -> float:
    """Processor time of this process and of its children, those that live."""
    times = _times()
    return sum(times[each][1] for each in _family(pid, times))


def family_of(pid: int) -> set[int]:
    """This process and its children, and theirs."""
    return _family(pid, _times())


def _family(pid: int, times: dict[int, tuple[int, float]]) -> set[int]:
    family = {pid}
    while more := {child for child, (parent, _) in times.items() if parent in family} - family:
        family |= more
    return family


def _times() -> dict[int, tuple[int, float]]:
    return _times_by_proc() if Path("/proc/self/stat").exists() else _times_by_ps()


def _times_by_proc() -> dict[int, tuple[int, float]]:
    """Parent and seconds by process, in hundredths."""
    times = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it has just ended
        times[int(path.parent.name)] = (int(fields[PARENT]), (int(fields[USER]) + int(fields[SYSTEM])) / TICKS)
    return times


def _times_by_ps() -> dict[int, tuple[int, float]]:
    """The same where there is no /proc: macOS tells hundredths here, Linux would tell seconds."""
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,time="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in lines.splitlines())
    return {int(pid): (int(parent), _seconds(time)) for pid, parent, time in rows}


def _seconds(time: str) -> float:
    """Of `[[days-]hours:]minutes:seconds`."""
    days, _, rest = time.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + float(days or 0) * 86_400


if __name__ == "__main__":
    stay_on(int(sys.argv[1]))
    many_connections()
    os.execvp(sys.argv[2], sys.argv[2:])
