"""What happens, as numbers for Prometheus.

Whoever counts binds the labels once (`REFUSALS.labels(...)` costs as much as counting does) and increments that.
Counting never raises; how that is done stands in `counting`.
"""

from resilience.counting import Counter, Gauge, OftenCounter, OftenHistogram

#: Upper bounds in seconds: the promise is 300 ms, and what is over the last one is lost to whoever asked.
ANSWER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)

ANSWERS = OftenHistogram(
    "http_answer_seconds",
    "From the door to the last header, by lane, view, method and status.",
    ["lane", "view", "method", "status"],
    buckets=ANSWER_BOUNDS,
)
REFUSALS = Counter(
    "http_refusals", "Turned away at the door, by lane, reason and importance.", ["lane", "reason", "importance"]
)
QUEUE_DELAY = OftenHistogram(
    "http_queue_seconds", "From arrival to a place in the application, by lane.", ["lane"], buckets=ANSWER_BOUNDS
)
LEVEL = Gauge(
    "service_level",
    "0 normal, 1 brownout, 2 shed, 3 static: of the process that gives up most.",
    multiprocess_mode="livemax",
)
BREAKERS = Gauge(
    "breaker_state",
    "0 closed, 1 half open, 2 open, 3 forced open, -1 bypassed, of the process that is worst off.",
    ["dependency"],
    multiprocess_mode="livemax",
)
CALLS = OftenCounter(
    "dependency_calls",
    "By dependency and result: ok, failed, slow, refused (breaker), full (bulkhead), late (deadline).",
    ["dependency", "result"],
)
RETRIES = Counter("retries", "Attempts after the first, by dependency.", ["dependency"])
RETRY_BUDGET = Gauge(
    "retry_budget",
    "Retries that are paid for, of the process that has fewest.",
    ["dependency"],
    multiprocess_mode="livemin",
)
RATE_LIMITED = Counter("rate_limited", "Asked to come back later, by limit and tier.", ["limit", "tier"])
CACHE_READS = Counter(
    "cache_reads",
    "Keys read from the cache, by the tier that answered, and what else happened to them: `cache.tallies.EVENTS`.",
    ["event"],
)
