"""One log file a process: appended to, kept from growing without end, its end shown when the process dies."""

from pathlib import Path
from typing import IO

#: Bytes at which a log is emptied before the next start: about a day of a noisy worker.
LOG_BYTES_MAXIMUM = 50_000_000
#: Lines that explain a death: a traceback fits.
LAST_LINES = 20
#: Bytes read from the end of a log to find them.
LAST_BYTES = 20_000


class Log:
    """A log from one start on: what earlier starts wrote is in the file, and not in `last_lines`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_size > LOG_BYTES_MAXIMUM:
            path.write_bytes(b"")
        self._start = path.stat().st_size if path.exists() else 0

    def open(self) -> IO[bytes]:
        return self.path.open("ab")

    def last_lines(self) -> list[str]:
        with self.path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(self._start, end - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
