"""The numbers of all processes of a machine, as Prometheus reads them.

With `PROMETHEUS_MULTIPROC_DIR` in the environment each process keeps its numbers in files of that folder, and whichever
is asked adds them up. Counts of a process that has ended stay in the sum, because a counter never goes back; its live
gauges (what is, not what was) go with it. The folder has to be emptied before the first process starts.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from resilience.counting import FOLDER, carry_on_all


def page(*others: Collector) -> bytes:
    """Of all processes that share the folder; of this one when there is none. And what others know, of no process."""
    registry = CollectorRegistry()
    for each in others:
        registry.register(each)
    if not _add_processes(registry):
        return generate_latest() + generate_latest(registry)
    return generate_latest(registry)


def families() -> Iterable[Metric]:
    """The same numbers, for somebody who goes on calculating with them."""
    registry = CollectorRegistry()
    return (registry if _add_processes(registry) else REGISTRY).collect()


def _add_processes(registry: CollectorRegistry) -> bool:
    """False when processes share no folder."""
    if not (folder := os.environ.get(FOLDER)):
        return False
    carry_on_all()
    _forget_the_dead(Path(folder))
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    return True


def _forget_the_dead(folder: Path) -> None:
    """Whoever was killed could not do it, and who starts processes may be another program than ours: so it is done by
    whoever looks."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}:
        if not _runs(pid):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
