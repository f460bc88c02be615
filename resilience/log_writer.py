"""Writing log lines by a thread of their own, so that a log that nobody reads fast enough stops no request.

At most so many lines wait; what comes beyond is dropped and counted, and the count is the next line that is written.
The line is finished where it is logged (its labels belong to that thread), only the write happens elsewhere, straight
to the descriptor: Python's own streams have locks that a forked child may inherit closed.
"""

import logging
import os
import threading
from contextlib import suppress
from queue import SimpleQueue
from weakref import WeakSet

#: Lines that may wait: at 200 a second, which is what a process may log, most of a minute.
QUEUE_MAXIMUM = 10_000
#: Seconds that the end of a process waits for its last lines to be taken.
CLOSE_SECONDS = 2.0
STDERR = 2


class QueuedHandler(logging.Handler):
    """Never blocks and never raises. `dropped` is what has not been told yet."""

    def __init__(self, descriptor: int = STDERR, queue_maximum: int = QUEUE_MAXIMUM) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._queue_maximum = queue_maximum
        self._is_closed = False
        self.start_over()
        _handlers.add(self)

    def start_over(self) -> None:
        """As new, also in a forked child: what waits is the parent's to write."""
        self.dropped = 0
        self._counting = threading.RLock()  # a signal's handler may log in the middle of it
        self._queue: SimpleQueue[tuple[bytes, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Under logging's lock of this handler, so that no two threads find the last place free."""
        line, worth = self._line(record), 1 + int(getattr(record, "left_out", 0))
        if self._is_closed:
            self._write(line, worth)
        elif self._queue.qsize() >= self._queue_maximum or not self._has_a_thread():
            self._drop(worth)
        else:
            self._queue.put((line, worth))

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _has_a_thread(self) -> bool:
        """False where none can be started: too many, or Python ends."""
        if self._thread is None:
            thread = threading.Thread(target=self._write_all, name="log writer", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return self._thread is not None

    def _write_all(self) -> None:
        queue = self._queue
        while waiting := queue.get():
            self._write(*waiting)

    def _write(self, line: bytes, worth: int) -> None:
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            self._drop(worth)
        else:
            self._tell_dropped()

    def _drop(self, worth: int) -> None:
        with self._counting:
            self.dropped += worth

    def _tell_dropped(self) -> None:
        if not self.dropped:
            return
        with self._counting:
            count, self.dropped = self.dropped, 0
        text = "%d lines were dropped: they could not be written fast enough"
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, (count,), None)
        try:
            os.write(self._descriptor, self._line(record))
        except OSError:
            self._drop(count)

    def close(self) -> None:
        """Write what waits, for a while; from now on whoever logs writes."""
        thread, self._is_closed = self._thread, True
        if thread and thread.is_alive():
            self._queue.put(None)
            thread.join(CLOSE_SECONDS)
        if not (thread and thread.is_alive()):
            self._tell_dropped()
        super().close()


_handlers: "WeakSet[QueuedHandler]" = WeakSet()


def _start_over_in_a_fork() -> None:
    for handler in list(_handlers):
        handler.start_over()


os.register_at_fork(after_in_child=_start_over_in_a_fork)
