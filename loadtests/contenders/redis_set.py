"""The baseline of reserving: the plainest write there is, by the same client, to the same Redis that writes to disk."""

import itertools

from inventory._connection import pooled, stock_redis
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample
from loadtests.house import House

#: About as long as the record of a reservation.
VALUE = "held:1000000:1"


class RedisSet:
    """One client that pipelines `batch` SETs of new keys in one trip and waits for all their answers."""

    def __init__(self, house: House, batch: int) -> None:
        self._batch = batch

    def measure(self, seconds: float) -> list[Sample]:
        watch, trips, numbers = Stopwatch(), 0, itertools.count()
        while watch.seconds < seconds:
            commands = [("SET", f"bench:{next(numbers)}", VALUE) for _ in range(self._batch)]
            with watch.running():
                _send(commands)
            trips += 1
        return [Sample(trips * self._batch / watch.seconds, "writes/s")]


def _send(commands: list[tuple[str, str, str]]) -> None:
    """As `inventory._scripts` sends: without redis-py's own pipeline, which costs more than Redis does."""
    with pooled(stock_redis()) as connection:
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            connection.read_response()
