"""Every contender by name, and the bars of issue 4. Contenders import models, so each is loaded after Django is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.utils.module_loading import import_string

from loadtests.figures import Bar, Sample
from loadtests.house import House


class Contender(Protocol):
    def measure(self, seconds: float) -> list[Sample]:
        """Do the work for about that long, or once for what has a fixed size, in a house that is clean."""


@dataclass(frozen=True)
class Entry:
    """Where a contender is, and what it is made with."""

    place: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: The figure is a size and not a speed: it is the same in every round, and needs no warm-up.
    once: bool = False

    def load(self, house: House) -> Contender:
        contender: Contender = import_string(f"loadtests.contenders.{self.place}")(house, **self.arguments)
        return contender


#: In the order in which they run: who is compared comes after its baseline.
CONTENDERS: Mapping[str, Entry] = {
    "redis set 1": Entry("redis_set.RedisSet", {"batch": 1}),
    "reserve.lua 1": Entry("reserving.ReserveScript", {"batch": 1}),
    "redis set 16": Entry("redis_set.RedisSet", {"batch": 16}),
    "reserve.lua 16": Entry("reserving.ReserveScript", {"batch": 16}),
    "redis set 64": Entry("redis_set.RedisSet", {"batch": 64}),
    "reserve.lua 64": Entry("reserving.ReserveScript", {"batch": 64}),
    "reserve 32 threads": Entry("reserving.Crowd", {"threads": 32}),
    "copy": Entry("copying.CopyReservations"),
    "copy all rows": Entry("copying.CopyAll"),
    "task per order": Entry("task_per_order.TaskPerOrder"),
    "drain": Entry("draining.Drain", {"with_orders": True}),
    "drain without orders": Entry("draining.Drain", {"with_orders": False}),
    "expiry": Entry("expiring.Expiry"),
    "memory": Entry("memory.Memory", once=True),
}

BARS = [
    Bar("reserve.lua 1", "redis set 1", counts=False),
    Bar("reserve.lua 16", "redis set 16", counts=False),
    Bar("reserve.lua 64", "redis set 64", at_least=0.4, because="batch 64 loses at most 60 % of raw pipelined"),
    Bar("reserve.lua 64", "redis set 64", at_least=0.6, counts=False, because="the same claim, read strictly"),
    Bar("reserve 32 threads", "reserve.lua 1", counts=False, because="what group commit gains over one by one"),
    Bar("drain", "copy", counts=False, because="COPY of the reservations alone, into a table without index or key"),
    Bar("drain", "copy all rows", at_least=0.5, because="half of a bare COPY of the same rows into the same tables"),
    Bar("drain", "task per order: consume", at_least=25, because="25 times one Celery task per order"),
    Bar("drain without orders", "copy", counts=False),
    Bar("drain without orders", "drain", counts=False, because="what the orders cost"),
    Bar("memory", at_most=400, because="bytes a reservation in Redis"),
    Bar("expiry", at_most=5, because="10 000 holds are on sale again"),
    Bar("expiry: not exactly once", at_most=0, because="each of them once"),
]
