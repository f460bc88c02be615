"""A stock Redis of a test's own, to be cut, filled or starved without harm to the other tests."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from inventory import _connection
from shop.local.redis_servers import STOCK
from shop.local.servers import Running
from tests.crowd import eventually

#: Seconds a small Redis may take to end.
END_SECONDS = 10


class PrivateRedis:
    """The stock Redis of this run once more, with a folder and an address of its own."""

    def __init__(self, servers: Running, folder: Path) -> None:
        [self._service] = [post.service for post in servers.supervisor._posts() if post.service.name == "redis-stock"]
        self.folder, self._socket = folder / "data", folder / "redis.sock"
        self.folder.mkdir()
        self.url = f"unix://{self._socket}?db=0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        place = {"port": "0", "unixsocket": str(self._socket), "dir": str(self.folder)}
        self._options = {**STOCK, **place, "save": "", "aof-load-truncated": "yes"}

    @contextmanager
    def running(self, **others: str) -> Iterator[redis.Redis]:
        """Yields a client of the test's own as soon as it answers. `others` are options beside or instead of ours."""
        options = self._options | others
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with subprocess.Popen(
            [self._service.command[0], *words],
            env=self._service.environment,
            stdout=subprocess.DEVNULL,
            restore_signals=False,  # Python ignores SIGXFSZ, so a file at its limit is an error and not the end
        ) as self.process:
            try:
                eventually(self._answers)
                yield self.client
            finally:
                self.client.connection_pool.disconnect()
                _connection.stock_redis.cache_clear()
                self.process.terminate()
                self.process.wait(END_SECONDS)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "this Redis has refused to start"
        try:
            return bool(self.client.ping())
        except redis.RedisError:  # not there yet, or still loading
            return False

    @property
    def log(self) -> Path:
        """The file that grows."""
        [log] = self.folder.glob("appendonlydir/*.incr.aof")
        return log
