"""Numbers for Prometheus that are kept elsewhere, and are read when somebody asks for them."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class CacheReads(Collector):
    """`cache_reads_total{event="memory"}` and so on, for each of `tallies.EVENTS`; `total` answers the counts.

    They are those of this process, and begin at nought with it, as Prometheus expects.
    """

    def __init__(self, total: Callable[[], Mapping[str, int]]) -> None:
        self._total = total

    def describe(self) -> Iterable[Metric]:
        """The name alone: to be registered must not need a cache."""
        yield _reads()

    def collect(self) -> Iterable[Metric]:
        reads = _reads()
        for event, number in self._total().items():
            reads.add_metric([event], number)
        yield reads


def _reads() -> CounterMetricFamily:
    text = "Keys read from the cache, by the tier that answered, and what else happened to them."
    return CounterMetricFamily("cache_reads", text, labels=["event"])
