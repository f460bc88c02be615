"""Every contender by name, and the bars that issues set. Contenders import models: each is loaded after Django is."""

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
    #: Each measurement makes its own processes and keys: a warm-up would warm nothing.
    anew: bool = False
    #: Takes minutes: left out unless it is asked for.
    long: bool = False
    #: Programs that it cannot do without, by title.
    programs: tuple[str, ...] = ()

    def load(self, house: House) -> Contender:
        contender: Contender = import_string(f"loadtests.contenders.{self.place}")(house, **self.arguments)
        return contender


#: Units held, recorded and given back. In the order in which they run: who is compared comes after its baseline.
STOCK: Mapping[str, Entry] = {
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

#: The cache tiers, in the memory of one process and between several.
CACHE: Mapping[str, Entry] = {
    "dict": Entry("caching.hits.DictHits"),
    "locmem get": Entry("caching.hits.LocmemHits", {"method": "get"}),
    "locmem get_or_set": Entry("caching.hits.LocmemHits", {"method": "get_or_set"}),
    "cache hit": Entry("caching.hits.CacheHits"),
    "cache list": Entry("caching.lists.Lists", anew=True),
    "cache expiry": Entry("caching.expiries.Expiries", anew=True),
    "cache memcached hung": Entry("caching.expiries.Expiries", {"hung": "memcached"}, anew=True),
    "cache Redis hung": Entry("caching.expiries.Expiries", {"hung": "redis-cache"}, anew=True),
    "cache write seen": Entry("caching.messages.Seen", anew=True),
    "cache holder killed": Entry("caching.messages.DeadHolder", anew=True),
    "Django stampede": Entry("caching.stampede.Stampede", {"way": "django"}, anew=True),
    "cache stampede": Entry("caching.stampede.Stampede", {"way": "tiers"}, anew=True),
}

#: More load than a server can take, and servers that fail. Windows of 20 s, measured once: ten times `--seconds`.
OVERLOAD: Mapping[str, Entry] = {
    "trip to Redis": Entry("overload.guards.Calls", {"way": "trip"}),
    "closed guard": Entry("overload.guards.Calls", {"way": "guard"}),
    "open guard": Entry("overload.guards.Calls", {"way": "refused"}),
    "outages": Entry("overload.outages.Outages", anew=True),
    "error storm": Entry("log_storm.LogStorm", once=True),
    "idle reference": Entry("overload.idle.Idle", {"scene": "reference"}, once=True, long=True),
    "idle sale": Entry("overload.idle.Idle", {"scene": "sale"}, once=True, long=True),
    "overload reference": Entry("overload.goodput.Goodput", {"scene": "reference"}, once=True, long=True),
    "overload sale": Entry("overload.goodput.Goodput", {"scene": "sale"}, once=True, long=True),
}


def _by_wrk(place: str, arguments: Mapping[str, Any] | None = None, **how: Any) -> Entry:
    return Entry(f"lanes.{place}", arguments or {}, programs=("wrk",), **how)


def _by_nginx(place: str, what: str) -> Entry:
    return Entry(f"lanes.through_nginx.{place}", {"what": what}, programs=("wrk", "nginx"))


#: What the hot requests cost, from outside, on one processor.
LANES: Mapping[str, Entry] = {
    "granian hello": _by_wrk("hot.Plain", {"name": "hello", "application": "loadtests.contenders.lanes.plain:hello"}),
    "plain Django view": _by_wrk(
        "hot.Plain", {"name": "django", "application": "loadtests.contenders.lanes.plain_django:application"}
    ),
    "row_lock": _by_wrk("baselines.Click", {"name": "row_lock"}),
    "textbook": _by_wrk("baselines.Click", {"name": "textbook"}),
    "ticket": _by_wrk("hot.Ticket"),
    "buy RESERVED": _by_wrk("hot.Buy"),
    "buy SOLD_OUT": _by_wrk("hot.SoldOut"),
    "status poll": _by_wrk("hot.Poll"),
    "live state": _by_wrk("hot.Same", {"what": "state"}),
    "sale page": _by_wrk("hot.Same", {"what": ""}),
    "nginx, a page's size": _by_nginx("NginxItself", ""),
    "page by nginx": _by_nginx("ThroughNginx", ""),
    "nginx, a state's size": _by_nginx("NginxItself", "state"),
    "state by nginx": _by_nginx("ThroughNginx", "state"),
    "poll by nginx": _by_nginx("ThroughNginx", "poll"),
    "buy, 10 offers": _by_wrk("hot.Buy", {"offers": 10}),
    "buy, 100 offers": _by_wrk("hot.Buy", {"offers": 100}),
    "buy beside 10^3": _by_wrk("hot.Buy", {"held": 1_000}),
    "buy beside 10^6": _by_wrk("hot.Buy", {"held": 1_000_000}),
    "beside Django at 5x": Entry("lanes.beside_django.BesideDjango", once=True),
    "click to recorded": Entry("lanes.recorded.ClickToRecorded", once=True),
    "textbook worker": _by_wrk("baselines.TextbookWorker", anew=True),
    "web process": _by_wrk("memory.WebMemory", once=True, long=True),
}

#: What can be asked for by one word.
PARTS: Mapping[str, Mapping[str, Entry]] = {"stock": STOCK, "cache": CACHE, "lanes": LANES, "overload": OVERLOAD}
CONTENDERS: Mapping[str, Entry] = {name: entry for part in PARTS.values() for name, entry in part.items()}


def _overload_bars(scene: str, least_of_peak: Mapping[int, float]) -> list[Bar]:
    """Those of one application, at each multiple of its peak; not measured are those where refusals leave nothing."""
    name = f"overload {scene}"
    bars = [Bar(f"{name}: {times}x", at_least=least) for times, least in least_of_peak.items()]
    for times in (2, 5, 10):
        bars += [
            Bar(f"{name}: {times}x, against possible", at_least=0.9, because="what refusals leave"),
            Bar(f"{name}: {times}x, p99", at_most=300, because="of whoever was admitted"),
        ]
    return [
        *bars,
        Bar(f"{name}: 0.8x, buyers refused", at_most=0, because="there is room for all"),
        Bar(f"{name}: buyers while they alone fit", at_least=99, because="per cent of them are served"),
        Bar(f"{name}: queue 1 s after a spike", at_most=100, because="it has passed by"),
    ]


def _lane_bars() -> list[Bar]:
    """Shares of what granian does when it has nothing to do, and of what nginx does."""
    hello = "granian hello"
    nothing = "from the click to its answer"
    return [
        Bar("plain Django view", hello, counts=False),
        Bar("buy RESERVED", hello, at_least=0.25, because="fsync always, ticket verified; 0.4 would be splendid"),
        Bar("buy RESERVED", "textbook", at_least=10),
        Bar("buy RESERVED", "row_lock", at_least=40),
        Bar("buy RESERVED: p99", at_most=25, because="at 64 connections"),
        Bar("buy RESERVED: SQL", at_most=0.001, because=nothing),
        Bar("buy SOLD_OUT", hello, at_least=0.45, because="ticket and cookie verified; 0.6 would be splendid"),
        Bar("status poll", hello, at_least=0.35, because="0.5 would be splendid"),
        Bar("live state", hello, at_least=0.5, because="in Python, from memory"),
        Bar("sale page", hello, at_least=0.5, because="in Python, from memory"),
        Bar("page by nginx", "nginx, a page's size", at_least=0.45, because="`return 200`; 0.7 would be splendid"),
        Bar("state by nginx", "nginx, a state's size", at_least=0.45, because="`return 200`; 0.7 would be splendid"),
        Bar("page by nginx: p99", at_most=10, because="nobody waits for the next page"),
        Bar("state by nginx: p99", at_most=10, because="nobody waits for the next state"),
        Bar("buy, 10 offers", "buy RESERVED", counts=False),
        Bar("buy, 100 offers", "buy RESERVED", at_least=0.7, because="spread over 100 offers"),
        Bar("buy beside 10^6", "buy beside 10^3", at_least=0.85, because="reservations of others cost nothing"),
        Bar("beside Django at 5x: p99", at_most=10, because="at 3 000 hot requests a second"),
        Bar("beside Django at 5x: buyers", at_least=98, because="per cent of them are served in time"),
        Bar("click to recorded: p99", at_most=2_000, because="at 2 000 buys a second"),
        Bar("click to recorded: SQL before reserved", at_most=0.001, because=nothing),
        Bar("drain", "textbook worker", at_least=25, because="25 times a task for each row"),
        Bar("web process: growth", at_most=5, because="MB from request 200 000 to request 1 000 000"),
    ]


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
    Bar("cache hit", "dict", at_least=0.25, because="at most 4 times the price of a dictionary and a clock"),
    Bar("cache hit", "locmem get", at_least=10, because="10 times Django's cache in memory"),
    Bar("cache hit", "locmem get_or_set", at_least=10, because="the same, by the same call"),
    Bar("cache list", at_most=0.5, because="40 000 items with 3 ms added to a trip"),
    Bar("cache list", "cache list: loop", counts=False, because="single reads one after the other, by a sample"),
    Bar("cache list", "cache list: pool", counts=False, because="single reads on sixteen threads, by a sample"),
    Bar("cache list: pool", at_most=10, because="the same 40 000 items, a trip for each"),
    Bar("cache expiry: p99", at_most=1, because="readers do not feel an expiry"),
    Bar("cache expiry: most in a period", at_most=1, because="one load for all processes"),
    Bar("cache memcached hung: p99", at_most=5, because="from the moment it hangs"),
    Bar("cache memcached hung: most in a period", at_most=1, because="Redis keeps the leases"),
    Bar("cache Redis hung: p99", at_most=5, because="from the moment it hangs"),
    Bar("cache Redis hung: most in a period", at_most=1, because="memcached keeps the leases"),
    Bar("cache write seen: p99", at_most=50, because="by the bus, in another process"),
    Bar("cache holder killed", at_most=100, because="ms after the end of its lease"),
    Bar("cache stampede: most of a key", at_most=1, because="200 readers, 4 processes, 20 keys"),
    Bar("cache stampede: least of a key", at_least=1, because="each key was loaded at all"),
    Bar("closed guard", "trip to Redis", counts=False, because="what it adds to the shortest call that it guards"),
    Bar("open guard", "trip to Redis", counts=False),
    Bar("outages: killed, until it opens", at_most=50, because="eight callers, 20 ms apart"),
    Bar("outages: healed, until it closes", at_most=2, because="open times"),
    Bar("outages: hung, until it opens", at_most=3, because="of a time-out"),
    Bar("outages: slow, until it opens", at_most=1, because="of a window"),
    Bar("outages: 60 % failing, until it opens", at_most=100, because="it does, though no three fail in a row"),
    Bar("outages: 8 calls of 50 ms at once", at_most=100, because="none waits for another"),
    Bar("error storm", at_least=90_000, because="the storm was one: 100 000 errors a second"),
    Bar("error storm: of a core", at_most=10, because="per cent, for what nearly all is left out of"),
    Bar("error storm: most in a second", at_most=20, because="lines of one kind"),
    Bar("error storm: not accounted for", at_most=0, because="written, or counted in a line"),
    Bar("outages: requests in an outage", at_most=1.1, because="at the proxy, for each call, with no breaker"),
    Bar("idle reference: of throughput", at_most=1, because="what the room costs while there is room"),
    Bar("idle sale: of throughput", at_most=1, counts=False, because="what the whole door costs"),
    *_lane_bars(),
    *_overload_bars("reference", least_of_peak={2: 0.9, 5: 0.9, 10: 0.85}),
    *_overload_bars("sale", least_of_peak={}),
]
