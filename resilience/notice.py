"""One value that all processes of a service read several times a second: a notice on a board in Redis.

    board = Notice("redis", "overrides")
    board.post({"level": "SHED"}, seconds=30)
    board.read()

The board is quick and forgetful: what hangs there has an end, and may be gone before. Whoever posts keeps the truth
somewhere else, and says it again when nothing hangs there.
"""

import json
from typing import Any

import redis
from django_redis import get_redis_connection


class NoticeAway(Exception):
    """Redis could not be asked, or did not answer in time."""


class Notice:
    """`alias` is a django-redis cache of Django's settings, whose timeouts are those of each method."""

    def __init__(self, alias: str, name: str) -> None:
        self._alias = alias
        self._key = f"notice:{name}"

    def post(self, value: Any, seconds: int, *, instead: bool = True) -> None:
        """Hang it up for so long, `instead` of what hangs there; or only if nothing does. Raises NoticeAway."""
        text = json.dumps(value)
        self._ask("SET", self._key, text, "EX", seconds, *([] if instead else ["NX"]))

    def read(self) -> Any:
        """What hangs there, or None; also for what is not ours. Raises NoticeAway."""
        text = self._ask("GET", self._key)
        try:
            return None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            return None

    def _ask(self, *command: Any) -> Any:
        try:
            return get_redis_connection(self._alias).execute_command(*command)
        except (redis.RedisError, OSError) as error:
            raise NoticeAway(str(error)) from error
