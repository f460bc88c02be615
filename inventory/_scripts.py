"""Lua scripts beside the module that loads them, called with the keys that their header names."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from inventory._connection import Connection, pooled, stock_redis
from inventory.outcomes import AnswerLost, InventoryFull, InventoryUnavailable
from resilience.empty import nothing_for_nothing

#: Answers of a server that did nothing, because its memory is full.
FULL = OutOfMemoryError
#: The same, because it cannot write its log: redis-py has no class for that.
FULL_WORDS = "MISCONF "
#: The same for another reason: a replica, still reading its file, or twice without the script.
REFUSED_WHOLE = (ReadOnlyError, BusyLoadingError, NoScriptError)
#: And from errors that redis-py has no class for: too few replicas, held up by a script.
REFUSED_WHOLE_WORDS = ("NOREPLICAS ", "BUSY ")

_HEADER_KEY = re.compile(r"^-- KEYS\[\d+\]", re.MULTILINE)

#: The keys and the arguments of one call.
Call = tuple[list[str], list[Any]]


class Script:
    """One .lua file of this package. Its header is the contract: the number of its KEYS lines is checked here."""

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).with_name(name)

    @cached_property
    def source(self) -> str:
        return self.path.read_text()

    @cached_property
    def key_count(self) -> int:
        return len(_HEADER_KEY.findall(self.source))

    def __call__(self, keys: list[str], arguments: list[Any], *, client: Redis | None = None) -> Any:
        """Run it; load it first when Redis does not know it (any more).

        Raises InventoryUnavailable when nothing was sent, AnswerLost when it was sent and no answer came.
        """
        [reply] = self.run_each([(keys, arguments)], pooled(client or stock_redis()))
        if isinstance(reply, Exception):
            raise reply
        return reply

    @nothing_for_nothing(returns=list)
    def run_each(self, calls: Sequence[Call], connecting: AbstractContextManager[Connection]) -> list[Any]:
        """Run it once for each call, all in one round trip: a reply for each, in order, and no trip for no calls.

        A reply is what the script returned or the exception that became of this call alone: InventoryUnavailable when
        the server did nothing for it, AnswerLost when it was sent and no answer came, a ResponseError of the script's
        own. Raises InventoryUnavailable when there is no connection.
        """
        for keys, _ in calls:
            if len(keys) != self.key_count:
                raise ValueError(f"{self.path.name} takes {self.key_count} keys, not {len(keys)}")

        with connecting as connection:
            replies = self._run(connection, calls)
            forgotten = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if forgotten:
                load = ("SCRIPT", "LOAD", self.source)
                _, *again = self._run(connection, [calls[at] for at in forgotten], load)
                for at, reply in zip(forgotten, again, strict=True):
                    replies[at] = reply
        return [_refusal(reply) or reply for reply in replies]

    def _run(self, connection: Connection, calls: Sequence[Call], *before: tuple[str, ...]) -> list[Any]:
        commands = [*before, *(("EVALSHA", self._digest, len(keys), *keys, *args) for keys, args in calls)]
        try:
            connection.send_packed_command(connection.pack_commands(commands))
        except (RedisError, OSError) as error:
            return [AnswerLost(str(error))] * len(commands)  # a part of it may have arrived
        return _replies(connection, len(commands))

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _replies(connection: Connection, count: int) -> list[Any]:
    """That many replies, errors among them; AnswerLost for all that did not come."""
    replies: list[Any] = []
    while len(replies) < count:
        try:
            replies.append(connection.read_response(disconnect_on_error=False))
        except (ResponseError, BusyLoadingError) as error:  # a reply like any other, and the next one follows
            replies.append(error)
        except (RedisError, OSError) as error:
            connection.disconnect()
            replies += [AnswerLost(str(error))] * (count - len(replies))
    return replies


def _refusal(reply: Any) -> InventoryUnavailable | None:
    """What a reply is to the caller when the server did nothing; None for any other."""
    words = str(reply) if isinstance(reply, ResponseError) else ""
    if isinstance(reply, FULL) or words.startswith(FULL_WORDS):
        return InventoryFull(str(reply))
    if isinstance(reply, REFUSED_WHOLE) or words.startswith(REFUSED_WHOLE_WORDS):
        return InventoryUnavailable(str(reply))
    return None
