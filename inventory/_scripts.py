"""Lua scripts beside the module that loads them, called with the keys that their header names."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
)

from inventory._connection import stock_redis
from inventory.outcomes import AnswerLost, InventoryUnavailable

#: Answers of a server that did nothing: full, a replica, or still reading its file.
REFUSED_WHOLE = (OutOfMemoryError, ReadOnlyError, BusyLoadingError)

_HEADER_KEY = re.compile(r"^-- KEYS\[\d+\]", re.MULTILINE)


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
        if len(keys) != self.key_count:
            raise ValueError(f"{self.path.name} takes {self.key_count} keys, not {len(keys)}")
        return self._evaluate(client or stock_redis(), keys, arguments)

    def _evaluate(self, client: Redis, keys: list[str], arguments: list[Any]) -> Any:
        pool = client.connection_pool
        try:
            connection = pool.get_connection()
        except (ConnectionError, TimeoutError, OSError) as error:
            raise InventoryUnavailable(str(error)) from error

        try:
            return self._run(connection, keys, arguments)
        except REFUSED_WHOLE as error:
            raise InventoryUnavailable(str(error)) from error
        except (ConnectionError, TimeoutError, OSError) as error:
            raise AnswerLost(str(error)) from error
        except BaseException:
            connection.disconnect()  # type: ignore[no-untyped-call]  # an answer may still be on its way to whoever takes this connection next
            raise
        finally:
            pool.release(connection)

    def _run(self, connection: Any, keys: list[str], arguments: list[Any]) -> Any:
        try:
            connection.send_command("EVALSHA", self._digest, len(keys), *keys, *arguments)
            return connection.read_response()
        except NoScriptError:
            connection.send_command("EVAL", self.source, len(keys), *keys, *arguments)
            return connection.read_response()

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
