"""What runs in a reader's process: its own memory tier, and threads that begin at the same moment."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import django

django.setup()

from resilience.cache.tiered import TieredCache  # noqa: E402  # after the settings
from tests.resilience.cache.own_servers import alias_of  # noqa: E402


def main(pipe: Connection, options: dict[str, Any], location: str) -> None:
    if "://" in options["REDIS"]:
        alias_of(options["REDIS"])
    cache = TieredCache(location, {"OPTIONS": options})
    pipe.send("ready")
    while True:
        try:
            work, arguments, threads, start_at = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_in_threads(threads, start_at, partial(_call, work, cache, arguments)))
        except Exception as error:
            pipe.send(error)


def _in_threads(threads: int, start_at: float, work: Callable[[int], Any]) -> list[Any]:
    """What the work answers in each of so many threads, all begun at that time."""

    def begin(index: int) -> Any:
        time.sleep(max(0.0, start_at - time.time()))
        return work(index)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def _call(work: Callable[..., Any], cache: TieredCache, arguments: tuple[Any, ...], index: int) -> Any:
    return work(cache, index, *arguments)
