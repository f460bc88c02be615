"""The bus: each process hears which keys the others invalidated, and forgets them from its memory.

Redis publishes at most once. Whoever was not connected heard nothing and knows it: the confirmation of each new
subscription clears the whole memory. While Redis is away nothing is heard, and a memory is at most one soft expiry
behind."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import redis

from resilience.cache.redis_tier import RedisTier

#: Seconds a listener waits for a message before it looks whether it shall end.
LISTEN_SECONDS = 1.0
#: Seconds between two attempts to connect: about a soft expiry, after which memory is asked anew anyway.
RECONNECT_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Bus:
    """`forget` gets the keys that another process invalidated, `forget_all` is called after a gap."""

    def __init__(
        self, tier: RedisTier, forget: Callable[[Sequence[str]], object], forget_all: Callable[[], object]
    ) -> None:
        self._tier = tier
        self._forget, self._forget_all = forget, forget_all
        self._me = secrets.token_hex(4)
        self._starting = threading.Lock()
        self._listener: threading.Thread | None = None
        self._ended = False
        self.connected = threading.Event()

    def message(self, names: Sequence[str] | None) -> str:
        """What tells the others that these keys are invalidated; None: all."""
        return json.dumps([self._me, None if names is None else list(names)])

    def listen(self) -> None:
        """Start the listener of this process, once."""
        if self._listener is None:
            with self._starting:
                if self._listener is None:
                    self._listener = threading.Thread(target=self._run, name="cache-bus", daemon=True)
                    self._listener.start()

    def end(self) -> None:
        """The listener ends soon, and with it its connection: nobody reads this cache any more."""
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            try:
                with closing(self._tier.subscription()) as channel:
                    self._follow(channel)
            except (redis.RedisError, OSError) as error:
                if self.connected.is_set() and not self._ended:
                    logger.warning("invalidations are not heard, memory ends by itself: %s", error)
                self.connected.clear()
                time.sleep(RECONNECT_SECONDS)
            except Exception:
                logger.exception("the listener for invalidations failed and starts anew")
                time.sleep(RECONNECT_SECONDS)

    def _follow(self, channel: Any) -> None:
        while not self._ended:
            match channel.get_message(timeout=LISTEN_SECONDS):
                case {"type": "subscribe"}:  # also after a connection that broke and was made again inside redis-py
                    self._forget_all()
                    self.connected.set()
                case {"type": "message", "data": data}:
                    self._hear(data)

    def _hear(self, data: bytes) -> None:
        try:
            sender, names = json.loads(data)
        except (ValueError, TypeError):
            logger.warning("no message of ours on the channel of invalidations: %r", data[:100])
            return
        if sender == self._me:
            return
        if names is None:
            self._forget_all()
        else:
            self._forget(names)

    def reset_after_fork(self) -> None:
        """The parent's listener does not exist here."""
        self._me = secrets.token_hex(4)
        self._starting = threading.Lock()
        self._listener = None
        self.connected = threading.Event()
