"""The guard of a django-redis cache: the third cache tier, the rate limits and whoever else asks that server share what
one of them has found out about it."""

from functools import cache

from resilience.guard import Guard

#: Its usual alias, which needs no mention where people read the name.
USUAL_ALIAS = "redis"


@cache
def guard_of(alias: str) -> Guard:
    """Of this process. A fork of it starts with one that knows nothing."""
    return Guard("cache Redis" if alias == USUAL_ALIAS else f"cache Redis ({alias})")
