"""How often a task is tried again: each task of the shop names one of these policies.

    @task("shop.preheat", "sent once", on=Incomplete)
    def preheat(slug: str) -> None: ...

What no policy tries again any more is given up: `dead_tasks` keeps it for a person.
"""

from collections.abc import Callable
from typing import Any

from celery import shared_task
from django.conf import settings

from resilience.retry import Errors, TaskPolicy

#: Retries of what ends by itself: with pauses of half a minute on average, an hour, which no entry of a cache outlives.
RETRIES_OF_AN_HOUR = 120
#: Seconds after which a task that is sent once is asked to end, so that it can still be written down as given up: the
#: limit of all tasks kills its process five seconds later. A drain never hears this, which would look to it like an
#: event that always fails.
ENDS_AFTER_SECONDS = settings.CELERY_TASK_TIME_LIMIT - 5

_retries, _pause_seconds, _longest_seconds = settings.RETRY_TASKS

#: By the way in which a task is started.
POLICIES = {
    # By the beat, again in seconds: the beat is the retry.
    "repeated": TaskPolicy(retries=0),
    # By somebody who will not do so again.
    "sent once": TaskPolicy(_retries, _pause_seconds, _longest_seconds),
    # What is worth trying until it no longer matters.
    "until too late": TaskPolicy(RETRIES_OF_AN_HOUR, _pause_seconds, _longest_seconds),
}


def task(name: str, policy: str, *, on: Errors = (), **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a Celery task of a function: `on` are the errors after which it is tried again.

    A repeated task is acknowledged as it begins, because the next beat does what it left. One that is sent once is
    acknowledged as it ends, also when it failed or its process was killed: it may be lost, it never comes for ever.
    """
    chosen = POLICIES[policy]
    if chosen.retries:
        options = {"acks_late": True, "soft_time_limit": ENDS_AFTER_SECONDS, **options}
    return shared_task(name=name, policy=policy, **chosen.options(on), **options)  # type: ignore[no-any-return]
