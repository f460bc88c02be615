"""Holding units: the script itself in batches, and the front door with a crowd before it."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings

from inventory import _keys, reservations
from inventory._commit import batcher
from inventory._scripts import Script
from loadtests.contenders.selling import must_be_reserved, open_offer, wish
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample, percentile
from loadtests.house import House

#: Seconds the crowd waits for its last member before it starts.
START_SECONDS = 5


class ReserveScript:
    """One process, one connection: reserve.lua for `batch` new buyers at once, by inventory's own call."""

    def __init__(self, house: House, batch: int) -> None:
        self._batch = batch
        self._script = Script("reserve.lua")

    def measure(self, seconds: float) -> list[Sample]:
        offer_id, buyers = open_offer(), itertools.count(1)
        keys, watch, held = _keys.of_reserve(offer_id), Stopwatch(), 0
        while watch.seconds < seconds:
            arguments = self._arguments(offer_id, buyers)
            with watch.running():
                _, _, _, *words = self._script(keys, arguments)
            for word in words:
                must_be_reserved(word)
            held += len(words)
        return [Sample(held / watch.seconds, "holds/s")]

    def _arguments(self, offer_id: int, buyers: Iterator[int]) -> list[int | str]:
        wishes = [wish(offer_id, next(buyers)) for _ in range(self._batch)]
        arguments: list[int | str] = [settings.EVENTS_WAITING_MAXIMUM]
        for each in wishes:
            arguments += [each.reservation_id, each.buyer_id, each.units, each.reason]
        return arguments


class Crowd:
    """Threads that each reserve one unit after the other, as those of a web process do: group commit."""

    def __init__(self, house: House, threads: int) -> None:
        self._threads = threads

    def measure(self, seconds: float) -> list[Sample]:
        offer_id, buyers = open_offer(), itertools.count(1)
        start_line = threading.Barrier(self._threads + 1)
        batches, requests = batcher.batches, batcher.requests

        def buy() -> list[float]:
            start_line.wait(START_SECONDS)
            return list(_buy_one_by_one(offer_id, buyers, time.perf_counter() + seconds))

        with ThreadPoolExecutor(self._threads) as pool:
            crowd = [pool.submit(buy) for _ in range(self._threads)]
            start_line.wait(START_SECONDS)
            started = time.perf_counter()
            waits = list(itertools.chain.from_iterable(member.result() for member in crowd))
            elapsed = time.perf_counter() - started
        return [
            Sample(len(waits) / elapsed, "holds/s"),
            Sample(percentile(waits, 0.99) * 1000, "ms", "p99"),
            Sample((batcher.requests - requests) / (batcher.batches - batches), "holds", "a trip"),
        ]


def _buy_one_by_one(offer_id: int, buyers: Iterator[int], until: float) -> Iterator[float]:
    """The seconds that each buyer waited."""
    while (asked := time.perf_counter()) < until:
        [answer] = reservations.reserve(offer_id, [wish(offer_id, next(buyers))])
        must_be_reserved(answer.outcome)
        yield time.perf_counter() - asked
