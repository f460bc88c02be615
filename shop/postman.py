"""What goes to the broker goes by a side thread of the process: a broker that hangs holds up the post, and no request.

    postman.post(lambda: app.send_task("shop.invalidate", [keys]))           # some time, or never
    postman.deliver(lambda: tasks.preheat.apply_async([slug], retry=False))  # raises unless it is done in a moment

Rings have a thread of their own (`inventory.doorbell`), because one of them stands for all. Both pass this guard.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from queue import Full, Queue
from typing import Any

from kombu.exceptions import OperationalError

from resilience import deadline
from resilience.guard import Guard, Thresholds
from resilience.refused import Refused

#: Letters that wait. What comes beyond is dropped: each is repeated by a beat, or its cause ends by itself.
LETTERS_MAXIMUM = 100
#: Seconds that somebody waits to hear that a letter is posted.
DELIVER_SECONDS = 1.0

#: Two threads publish, so that two hanging calls are all there can be. A message takes the broker a millisecond.
guard = Guard("broker", thresholds=Thresholds(failures_in_a_row=2, slow_seconds=1.0))

logger = logging.getLogger(__name__)

Send = Callable[[], object]


class Postman:
    """Delivers one letter after the other, on a thread that begins with the first of this process, or of a fork."""

    def __init__(self) -> None:
        self._hiring = threading.Lock()
        self._process = 0

    def post(self, send: Send) -> "Future[Any]":
        """Never waits. Raises OperationalError when the post is full."""
        self._have_a_thread()
        done: Future[Any] = Future()
        try:
            self._letters.put_nowait((send, done))
        except Full:
            raise OperationalError(f"{LETTERS_MAXIMUM} messages wait for the broker already") from None
        return done

    def deliver(self, send: Send) -> None:
        """Returns when it is sent. Raises OperationalError: then it may be sent later, unless it was withdrawn here."""
        done = self.post(send)
        try:
            done.result(min(DELIVER_SECONDS, deadline.left_seconds()))
        except (Late, Refused) as error:
            done.cancel()
            raise OperationalError(f"the broker does not answer: {error!r}") from error

    def _have_a_thread(self) -> None:
        if self._process == os.getpid():
            return
        with self._hiring:
            if self._process != os.getpid():
                self._letters: Queue[tuple[Send, Future[Any]]] = Queue(LETTERS_MAXIMUM)
                threading.Thread(target=self._deliver_for_ever, name="postman", daemon=True).start()
                self._process = os.getpid()

    def _deliver_for_ever(self) -> None:
        while True:
            send, done = self._letters.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                with guard.watching():
                    send()
            except Exception as error:
                logger.warning("a message was not sent: %r", error)
                done.set_exception(error)
            else:
                done.set_result(None)


_postman = Postman()
post, deliver = _postman.post, _postman.deliver
