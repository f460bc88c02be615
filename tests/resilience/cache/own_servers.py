"""memcached and Redis once more, for one test alone: to be killed, frozen and started again without harm to others."""

import itertools
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis
from django.conf import settings
from django.core.cache import caches
from pymemcache.client.base import Client

from shop.local.accounts import as_account
from shop.local.pings import memcached_answers, redis_answers
from shop.local.servers import Running
from tests.crowd import eventually

_numbers = itertools.count(1)


class OwnServer:
    """The server that this run has under that name, with the same options at another socket, and empty."""

    def __init__(self, servers: Running, name: str) -> None:
        [service] = [post.service for post in servers.supervisor._posts() if post.service.name == name]
        assert service.socket is not None
        self.socket = service.socket.with_name(f"own-{next(_numbers)}.sock")  # where its account may write
        self._service = service
        self._command = [str(self.socket) if word == str(service.socket) else word for word in service.command]
        self._answers = memcached_answers if name == "memcached" else redis_answers

    @contextmanager
    def running(self) -> Iterator["OwnServer"]:
        self.start()
        try:
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(
            self._command,
            env=dict(self._service.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_account(self._service.account),
        )
        eventually(self._is_there)

    def _is_there(self) -> bool:
        assert self._process.poll() is None, "the server has refused to start"
        try:
            return self._answers(self.socket)
        except OSError:
            return False

    def kill(self) -> None:
        """As `kill -9` does; what it had is gone."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def has_entries(self) -> bool:
        """Somebody has stored something since it was started."""
        if self._answers is redis_answers:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.dbsize())
        with closing(Client(str(self.socket))) as client:
            return bool(client.stats()[b"curr_items"])

    @property
    def url(self) -> str:
        """Of a Redis."""
        return f"unix://{self.socket}?db=0"


def alias_of(url: str) -> str:
    """What the cache's option REDIS calls the Redis at this address, in this process."""
    caches.settings[url] = {**settings.CACHES["redis"], "LOCATION": url}
    return url
