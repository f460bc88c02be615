"""What this process has asked, until somebody fetches it: Locust's master, or the file."""

import time
from collections.abc import Callable

from locust.env import Environment

from loadtests.plan import Plan
from loadtests.records import Record
from loadtests.wire import Answer, Lost, Wire


class Book:
    """Times are the server's: this machine's clock, set right by what was measured before the run."""

    def __init__(self, environment: Environment, plan: Plan) -> None:
        self._fire = environment.events.request.fire
        self._ahead_seconds = plan.ahead_ms / 1000
        self._records: list[Record] = []

    def now(self) -> float:
        return time.time() + self._ahead_seconds

    def taken(self) -> list[Record]:
        """Everything since the last time."""
        taken, self._records = self._records, []
        return taken

    def note(self, record: Record) -> None:
        self._records.append(record)

    def ask(
        self,
        wire: Wire,
        request: bytes,
        kind: str,
        role: str,
        who: int,
        at: float | None = None,
        read: Callable[[Answer], tuple[str, str]] = lambda answer: ("", ""),
        ticket: str = "",
    ) -> Answer | None:
        """The answer, written down with what `read` finds in it: a word and the reservation it is about. None: lost."""
        sent = self.now()
        at = sent if at is None else at
        try:
            answer = wire.ask(request)
        except Lost as lost:
            done = self.now()
            self.note(Record(kind, role, who, at, sent, done, 0, str(lost)[:40], "", ticket))
            self._tell(kind, done - at, 0, lost)
            return None
        done = self.now()
        word, about = read(answer)
        record = Record(kind, role, who, at, sent, done, answer.status, word, about, ticket)
        self.note(record)
        refused = RuntimeError(f"{answer.status} {word}") if record.is_refusal or answer.status >= 500 else None
        self._tell(kind, done - at, len(answer.body), refused)
        return answer

    def _tell(self, kind: str, seconds: float, length: int, error: Exception | None) -> None:
        """Locust's own table and page show the same requests, from the same intended moments."""
        self._fire(
            request_type="",
            name=kind,
            response_time=seconds * 1000,
            response_length=length,
            exception=error,
            context={},
        )
