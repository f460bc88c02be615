"""People in a hurry: many threads that start at the same moment, and waiting for what they cause."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

Person, Result = TypeVar("Person"), TypeVar("Result")

#: Seconds a condition may take on a slow and busy machine. Nothing waits that long unless it is broken.
PATIENCE_SECONDS = 20.0


def at_once(crowd: Iterable[Person], do: Callable[[Person], Result]) -> list[Result]:
    """What each of the crowd got, who all start when the last one is there; in the order of the crowd."""
    people = list(crowd)
    start_line = threading.Barrier(len(people))

    def run(person: Person) -> Result:
        start_line.wait(PATIENCE_SECONDS)
        try:
            return do(person)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(run, people))


def eventually(condition: Callable[[], Result], seconds: float = PATIENCE_SECONDS) -> Result:
    """The condition's value as soon as it is true. Fails when it stays false."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not true after {seconds} s"
        time.sleep(0.01)
    return value
