"""What processes hear of each other: a write by the bus, and a death by the end of a lease."""

import time

import redis
from django.conf import settings

from loadtests.contenders.caching.scene import OFFER, readers
from loadtests.figures import Sample, percentile
from loadtests.house import House
from resilience.cache.tiered import TieredCache

KEY = "offer:7"
FRESH_SECONDS = 3_600
#: Writes that one process makes in a measurement, and the seconds between them, in which the other one sees each.
WRITES, WRITE_EVERY_SECONDS = 100, 0.01
#: Between two looks of the one who waits for a write: much less than what is measured takes.
LOOK_EVERY_SECONDS = 0.0003
#: A reader gives up when it saw nothing new for so long; without the bus memory would answer alone for a second.
SEEN_WITHIN_SECONDS = 5.0


class Seen:
    """From the call that writes here to the read that answers the new value in another process."""

    def __init__(self, house: House) -> None:
        pass

    def measure(self, seconds: float) -> list[Sample]:
        with readers(2) as [writer, reader]:
            writer.ask(write_one)
            writer.result()
            reader.ask(see)
            writer.ask(write)
            [written], [seen] = writer.result(), reader.result()
        waits = [seen[number] - at for number, at in written.items()]
        return [
            Sample(percentile(waits, 0.5) * 1000, "ms", "p50"),
            Sample(percentile(waits, 0.99) * 1000, "ms", "p99"),
        ]


def write_one(cache: TieredCache, index: int) -> None:
    cache.set(KEY, {**OFFER, "number": 0}, FRESH_SECONDS)


def write(cache: TieredCache, index: int) -> dict[int, float]:
    """When each number was about to be written, by the clock that all processes share."""
    written = {}
    for number in range(1, WRITES + 1):
        time.sleep(WRITE_EVERY_SECONDS)
        written[number] = time.monotonic()
        cache.set(KEY, {**OFFER, "number": number}, FRESH_SECONDS)
    return written


def see(cache: TieredCache, index: int) -> dict[int, float]:
    """When each number, or a later one, was read first."""
    seen: dict[int, float] = {}
    give_up_at = time.monotonic() + SEEN_WITHIN_SECONDS
    while len(seen) < WRITES:
        newest = cache.get_or_set(KEY, _nobody_loads, FRESH_SECONDS)["number"]
        now = time.monotonic()
        if newest > len(seen):
            seen.update(dict.fromkeys(range(len(seen) + 1, newest + 1), now))
            give_up_at = now + SEEN_WITHIN_SECONDS
        elif now > give_up_at:
            raise TimeoutError(f"write {len(seen) + 1} is not seen after {SEEN_WITHIN_SECONDS} s")
        time.sleep(LOOK_EVERY_SECONDS)
    return seen


def _nobody_loads() -> None:
    raise LookupError("what was written is gone")


#: Seconds of the lease here: shorter than the shop's, so that its end is not waited for so long.
LEASE_SECONDS = 1.0
#: Seconds in which a reader begins to load.
BEGIN_SECONDS = 5
#: Seconds of the load that is killed: it would outlive the lease.
ENDLESS_SECONDS = 60


class DeadHolder:
    """Somebody is killed while it loads: how long after the end of its lease another reader has the value."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        with readers(2, LEASE_SECONDS=LEASE_SECONDS) as [holder, heir]:
            holder.ask(load_for_ever)
            began = self._house.redis.blpop(["holding"], timeout=BEGIN_SECONDS)
            if not began:
                raise TimeoutError("nobody began to load")
            holder.kill()
            heir.ask(take_over)
            [had_at] = heir.result()
        return [Sample((had_at - float(began[1]) - LEASE_SECONDS) * 1000, "ms")]


def load_for_ever(cache: TieredCache, index: int) -> None:
    def load() -> None:
        redis.Redis.from_url(settings.STOCK_REDIS_URL).rpush("holding", time.monotonic())
        time.sleep(ENDLESS_SECONDS)

    cache.get_or_set(KEY, load, FRESH_SECONDS)


def take_over(cache: TieredCache, index: int) -> float:
    """When the value was there."""
    cache.get_or_set(KEY, lambda: OFFER, FRESH_SECONDS)
    return time.monotonic()
