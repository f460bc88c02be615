"""What all processes of this machine have counted, made into figures for the console: rates, percentiles, shares.

Counters only grow, so a figure is the difference of two looks over the time between them.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prometheus_client import Metric

from resilience import scraping
from resilience.breaker import STATE_NUMBERS
from resilience.degradation import Level

#: The share of answers that come faster than what is told.
PERCENTILE = 0.95
#: Answers that no shopper asked for.
OF_NOBODY = frozenset({"livez", "readyz", "metrics", "console:figures"})
#: Who answered a read of the cache: what a hit ratio is made of. The last are misses.
TIERS = ("memory", "memcached", "redis", "loads")

_STATE_WORDS = {number: word for word, number in STATE_NUMBERS.items()}

Counts = dict[str, dict[str, float]]
#: One look: by kind of number, by group, by name.
Sums = dict[str, Counts]


def look() -> Sums:
    """The sums of this moment, as JSON takes them. Reads the files of all processes, and asks no server."""
    sums: Sums = {"answers": {}, "refusals": {}, "reads": {}, "funnel": {}, "gauges": {}}
    for family in scraping.families():
        _ADD.get(family.name, _ignore)(sums, family)
    return sums


def _add(into: Counts, group: str, name: str, number: float) -> None:
    counts = into.setdefault(group, {})
    counts[name] = counts.get(name, 0.0) + number


def _ignore(_sums: Sums, _family: Metric) -> None:
    pass


def _answers(sums: Sums, family: Metric) -> None:
    for sample in family.samples:
        if sample.name.endswith("_bucket") and sample.labels["view"] not in OF_NOBODY:
            _add(sums["answers"], sample.labels["lane"], sample.labels["le"], sample.value)


def _refusals(sums: Sums, family: Metric) -> None:
    label = "reason" if family.name == "http_refusals" else "limit"
    for sample in family.samples:
        if sample.name.endswith("_total"):
            _add(sums["refusals"], "all", sample.labels[label], sample.value)


def _reads(sums: Sums, family: Metric) -> None:
    for sample in family.samples:
        if sample.name.endswith("_total") and sample.labels["event"] in TIERS:
            _add(sums["reads"], "all", sample.labels["event"], sample.value)


def _funnel(sums: Sums, family: Metric) -> None:
    for sample in family.samples:
        if sample.name.endswith("_total"):
            _add(sums["funnel"], sample.labels["sale"], sample.labels["step"], sample.value)


def _gauge(sums: Sums, family: Metric) -> None:
    for sample in family.samples:
        _add(sums["gauges"], family.name, sample.labels.get("dependency", ""), sample.value)


_ADD = {
    "http_answer_seconds": _answers,
    "http_refusals": _refusals,
    "rate_limited": _refusals,
    "cache_reads": _reads,
    "shop_funnel": _funnel,
    "service_level": _gauge,
    "breaker_state": _gauge,
}


# --- From one look to the next ---------------------------------------------------------------------------------------


def between(before: Sums | None, now: Sums, seconds: float) -> dict[str, Any]:
    """Figures of the time between two looks; of the gauges, what is. Without a look before there are no rates."""
    grown = {kind: _grown((before or now)[kind], now[kind]) for kind in ("answers", "refusals", "reads")}
    lanes = {lane: _lane(buckets, seconds) for lane, buckets in grown["answers"].items()}
    return {
        "lanes": lanes,
        "refusals": {name: number / seconds for name, number in grown["refusals"].get("all", {}).items()},
        "tiers": _shares(grown["reads"].get("all", {})),
        "breakers": {
            name: _STATE_WORDS.get(int(state), "unknown")
            for name, state in now["gauges"].get("breaker_state", {}).items()
        },
        "level": Level(int(now["gauges"].get("service_level", {}).get("", 0))).name,
    }


def _grown(before: Counts, now: Counts) -> Counts:
    """By how much each has grown; one that is smaller than before has started anew."""
    grown: Counts = {}
    for group, counts in now.items():
        old = before.get(group, {})
        grown[group] = {name: max(0.0, number - old.get(name, 0.0)) for name, number in counts.items()}
    return grown


def _lane(buckets: Mapping[str, float], seconds: float) -> dict[str, float | None]:
    return {"rate": buckets.get("+Inf", 0.0) / seconds, "p95_ms": _p95_ms(buckets)}


def _p95_ms(buckets: Mapping[str, float]) -> float | None:
    """Within its bucket by a straight line, as Prometheus does; None when nobody was answered. What is over the last
    bound is told as that."""
    ordered = sorted((float(bound), number) for bound, number in buckets.items())
    if not ordered or not ordered[-1][1]:
        return None
    wanted, below, lower = ordered[-1][1] * PERCENTILE, 0.0, 0.0
    for bound, number in ordered:
        if number >= wanted:
            return 1000 * (
                lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / (number - below)
            )
        below, lower = number, bound
    return None


def _shares(reads: Mapping[str, float]) -> dict[str, float]:
    """Of each tier, and of loads, the part of all reads; nothing when nobody read."""
    told = Counter({tier: reads.get(tier, 0.0) for tier in TIERS})
    return {tier: number / total for tier, number in told.items()} if (total := sum(told.values())) else {}
