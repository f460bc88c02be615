"""What degrades (ARCHITECTURE, section 8) as data: each drill, what it breaks, and what people may see of it."""

from dataclasses import dataclass

from loadtests.drills.faults import (
    Blow,
    emptied,
    hung,
    killed,
    killed_in_mid_batch,
    nothing,
    provider,
    read_only,
    slowed,
)

#: What a click hears on any day.
USUAL = frozenset({"TICKET", "RESERVED", "REPEATED", "SOLD_OUT", "LIMIT_REACHED"})
#: Kinds of requests that go on whatever happens behind them.
PAGES = ("page", "state")
CLICKS = ("ticket", "buy")
POLLS = ("poll",)
PAYING = ("pay",)


@dataclass(frozen=True)
class Drill:
    name: str
    blow: Blow
    #: What section 8 promises, in its words.
    promise: str
    #: Seconds from the blow until it is healed, or until what died must be back by itself.
    lasts_seconds: float
    #: Kinds that are served all the while, each for nine of ten who ask.
    goes_on: tuple[str, ...] = (*PAGES, *CLICKS, *POLLS, *PAYING)
    #: Words that clicks may hear meanwhile, besides the usual ones.
    hears: frozenset[str] = frozenset()
    #: Milliseconds within which clicks are answered meanwhile, at their p90.
    answers_ms: float = 300
    #: Seconds after that until units are reserved and orders are placed again, by themselves.
    back_seconds: float = 2
    #: The clocks of all shoppers' devices are wrong by so much.
    devices_off_seconds: float = 0


_STOCK = "pages and orders work; buy answers within 300 ms: PAUSED or BUSY if nothing was sent, else UNKNOWN"
_CACHE = "the same pages, from the other tiers"
_DATABASE = 'browse, reserve, wait: "reserved, being written down"'
_WORKER = "reserve works; all recorded after they return"
_PROVIDER = "order stays payable until its hold ends"
_FAULT = frozenset({"PAUSED", "BUSY", "UNKNOWN"})
_ALL_BUT_PAYING = (*PAGES, *CLICKS, *POLLS)

DRILLS = (
    Drill("redis-killed", killed("redis-stock"), _STOCK, 2, PAGES, _FAULT, back_seconds=5),
    Drill("redis-hang", hung("redis-stock"), _STOCK, 5, PAGES, _FAULT, back_seconds=6),
    Drill(
        "redis-empty",
        emptied(),
        "no oversell with all of it lost; sells on with what is left",
        2,
        PAGES,
        _FAULT,
        back_seconds=15,
    ),
    Drill("cache-killed", killed("redis-cache"), _CACHE, 3),
    Drill("cache-hang", hung("redis-cache"), _CACHE, 4),
    Drill("cache-slow", slowed("redis-cache", 200), _CACHE, 4),
    Drill("memcached-killed", killed("memcached"), _CACHE, 3),
    Drill("memcached-hang", hung("memcached"), _CACHE, 4),
    Drill("memcached-slow", slowed("memcached", 200), _CACHE, 4),
    Drill("database-killed", killed("postgresql"), _DATABASE, 3, (*PAGES, *CLICKS, *POLLS), back_seconds=8),
    Drill("database-hang", hung("postgresql"), _DATABASE, 5, (*PAGES, *CLICKS, *POLLS), back_seconds=10),
    Drill("database-read-only", read_only(), _DATABASE, 5, _ALL_BUT_PAYING, back_seconds=10),
    Drill("worker-killed", killed_in_mid_batch("worker"), _WORKER, 3, back_seconds=40),
    Drill("web-killed", killed("express"), "the other lane takes the clicks", 3, PAGES, _FAULT, 1_500, 5),
    Drill("pages-killed", killed("pages"), "pages are busy, buying goes on", 3, _ALL_BUT_PAYING),
    Drill("broker-killed", killed("redis-broker"), "losing it is harmless: beat rings again", 3, back_seconds=10),
    Drill("provider-refuses", provider(refuse=True), _PROVIDER, 4, _ALL_BUT_PAYING, back_seconds=8),
    Drill("provider-slow", provider(slow_ms=1_500), _PROVIDER, 4, _ALL_BUT_PAYING, back_seconds=8),
    Drill("provider-ten-times", provider(repeat=10), "duplicates are safe", 6),
    Drill("clock-off", nothing(), "the page goes by the shop's clock", 2, devices_off_seconds=3_600),
)
