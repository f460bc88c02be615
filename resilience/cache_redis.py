"""The guard of a django-redis cache: the third cache tier, the rate limits and whoever else asks that server share what
one of them has found out about it."""

from functools import cache
from typing import Any

from django_redis import get_redis_connection

from resilience.guard import Guard, Thresholds

#: Its usual alias, which needs no mention where people read the name.
USUAL_ALIAS = "redis"


@cache
def guard_of(alias: str) -> Guard:
    """Of this process. A fork of it starts with one that knows nothing."""
    client: Any = get_redis_connection(alias)
    # Whoever is patient with it does not call it slow before its time.
    timeout_seconds = client.connection_pool.connection_kwargs.get("socket_timeout") or 0.0
    limits = Thresholds(slow_seconds=max(Thresholds().slow_seconds, timeout_seconds))
    return Guard("cache Redis" if alias == USUAL_ALIAS else f"cache Redis ({alias})", thresholds=limits)
