"""A load on a server: how many answers a second, how fast, and what each of them took of processor, SQL and Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import redis
from django.conf import settings

from loadtests.contenders.lanes.serving import Server
from loadtests.contenders.lanes.wrk import CONNECTIONS, Ran, run
from loadtests.figures import Sample
from loadtests.house import House


@dataclass(frozen=True, slots=True)
class Spent:
    """So far: seconds of the server's processor, its SQL statements, reads of Redis from its clients' sockets."""

    processor_seconds: float
    statements: int
    trips: int

    @classmethod
    def of(cls, server: Server) -> Self:
        return cls(server.processor_seconds, server.statements, sum(_reads(url) for url in _redis_urls()))


def _redis_urls() -> list[str]:
    broker = settings.CELERY_BROKER_URL
    return [settings.STOCK_REDIS_URL, settings.CACHE_REDIS_URL, broker.replace("redis+socket", "unix").split("?")[0]]


def _reads(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["total_reads_processed"])


def loaded(
    house: House, server: Server, requests: Sequence[bytes], seconds: float, connections: int = CONNECTIONS
) -> tuple[Ran, list[Sample]]:
    """What became of the requests, and the samples that say so. Raises RuntimeError when some were not answered."""
    with house.apart():
        before = Spent.of(server)
        ran = run(house.program("wrk"), server.port, requests, seconds, connections)
        after = Spent.of(server)
    if ran.lost or not ran.requests:
        raise RuntimeError(f"{ran.lost} of {ran.requests} requests were not answered")
    return ran, list(_samples(ran, before, after))


def _samples(ran: Ran, before: Spent, after: Spent) -> list[Sample]:
    return [
        Sample(ran.rate, "requests/s"),
        Sample(ran.p50_ms, "ms", "p50"),
        Sample(ran.p99_ms, "ms", "p99"),
        Sample(1e6 * (after.processor_seconds - before.processor_seconds) / ran.requests, "us", "processor"),
        Sample((after.statements - before.statements) / ran.requests, "a request", "SQL"),
        Sample((after.trips - before.trips) / ran.requests, "a request", "trips to Redis"),
    ]


#: Part of the answers that may be others than expected: a machine that stalls lets some clicks hear "not sure yet".
STRAYS = 0.01


def must_be_refused(ran: Ran, expected: int, what: str) -> None:
    """A bench of wrong answers would be fast and worthless."""
    if abs(ran.refused - expected) > STRAYS * ran.requests:
        raise RuntimeError(f"{what}: {ran.refused} refusals among {ran.requests} answers, expected were {expected}")
