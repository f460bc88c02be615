"""The guard of a django-redis cache: the third cache tier, the rate limits and whoever else asks that server share what
one of them has found out about it."""

from functools import cache

from resilience.guard import Guard, Thresholds

#: Its usual alias, which needs no mention where people read the name.
USUAL_ALIAS = "redis"
#: Nobody waits for a cache that is back after an outage: a look costs one reader a tenth of a second.
LIMITS = Thresholds(open_maximum_seconds=5.0)


@cache
def guard_of(alias: str) -> Guard:
    """Of this process. A fork of it starts with one that knows nothing."""
    return Guard("cache Redis" if alias == USUAL_ALIAS else f"cache Redis ({alias})", thresholds=LIMITS)
