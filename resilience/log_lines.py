"""A record as one line: JSON for machines, plain text for a terminal; clean of secrets and of control characters.

Whoever can get a line feed into the log can forge a line, and whoever can get an escape character into it can repaint a
terminal. So what came from outside is escaped, and a traceback cannot pretend to be a line: in JSON it is a string, in
text it is indented.

Labels say on whose behalf something happens (`relabel(request="4f1c")`); they belong to a thread and are on its lines.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

#: Characters of a message; what is longer is a value that nobody reads in a log.
MESSAGE_MAXIMUM = 4_000
#: Characters of a traceback: some eighty frames. Of a longer one both ends are kept.
TRACEBACK_MAXIMUM = 16_000
#: What stands for a secret.
MASK = "***"

#: As they were given: of a thousand requests that are labelled, one writes a line.
_labels: ContextVar[Mapping[str, object]] = ContextVar("labels")
_NO_LABELS: Mapping[str, object] = {}


def labels() -> Mapping[str, str]:
    """Those of this thread, now."""
    return {name: str(value) for name, value in _labels.get(_NO_LABELS).items()}


def label(**more: object) -> None:
    """These are on its lines, too."""
    _labels.set({**_labels.get(_NO_LABELS), **more})


def relabel(**these: object) -> None:
    """Something else begins in this thread: only these are on its lines, until the next one begins."""
    _labels.set(these)


@contextmanager
def labelled(**these: object) -> Iterator[None]:
    """Only these, and those before when it ends."""
    before = _labels.set(these)
    try:
        yield
    finally:
        _labels.reset(before)


class Cleaner:
    """Masks `secrets` wherever they stand, and whatever is called by one of `secret_names`."""

    def __init__(self, secret_names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        names = "|".join(map(re.escape, secret_names)) or r"(?!)"
        self._secrets = [secret for secret in secrets if secret]
        self._named = [
            re.compile(rf"(?i)((?:{names})[\w-]*\s*=\s*)(?:\"[^\"]*\"?|'[^']*'?|[^\s,;&)}}\]]+)"),  # in a form, in code
            re.compile(rf"(?i)((?:{names})[\w-]*[\"']\s*:\s*)(?:\"[^\"]*\"?|'[^']*'?|[^\s,}}\]]+)"),  # in JSON, a dict
            re.compile(r"(?i)((?:cookie|authorization)\s*:\s*)[^\r\n]+"),  # a header
            re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"),
            re.compile(r"(://[^\s:/@]*:)[^\s/]+(?=@)"),  # the password in an address
        ]

    def __call__(self, text: str, most: int) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        if len(text) > most:
            half = most // 2
            text = f"{text[:half]} ... {len(text) - 2 * half} characters ... {text[-half:]}"
        for pattern in self._named:
            text = pattern.sub(rf"\g<1>{MASK}", text)
        return text


class _Lines(logging.Formatter):
    def __init__(self, secret_names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._clean = Cleaner(secret_names, secrets)

    def _facts(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line says; `left_out` and `error` are put on the record by `quiet_logging`."""
        error = record.exc_info[1] if record.exc_info else None
        facts: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._clean(_message(record), MESSAGE_MAXIMUM),
            **{name: self._clean(value, MESSAGE_MAXIMUM) for name, value in labels().items()},
            "process": record.process,
        }
        if left_out := getattr(record, "left_out", 0):
            facts["left_out"] = left_out
        if said := brief(error) if error else getattr(record, "error", ""):
            facts["error"] = self._clean(said, MESSAGE_MAXIMUM)
        if record.exc_info:
            facts["traceback"] = self._clean(self.formatException(record.exc_info), TRACEBACK_MAXIMUM)
        return facts


class JsonLines(_Lines):
    """One object a line, in ASCII: no character of any kind ends it early."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._facts(record)).replace("\x7f", r"\u007f")


class TextLines(_Lines):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        facts = self._facts(record)
        traceback, left_out = facts.pop("traceback", ""), facts.pop("left_out", 0)
        at, level, logger, message = (facts.pop(name) for name in ("at", "level", "logger", "message"))
        del facts["process"]
        parts = [at[11:23], level, logger, message, *(f"[{name} {value}]" for name, value in facts.items())]
        if left_out:
            parts.append(f"[{left_out} left out]")
        indented = [f"    {escaped(line)}" for line in traceback.split("\n") if line]
        return "\n".join([escaped(" ".join(parts)), *indented])


def brief(error: BaseException) -> str:
    """An exception in one line, without its traceback."""
    return f"{type(error).__name__}: {error}"


def escaped(text: str) -> str:
    """Every character that does something instead of being seen, as its escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _message(record: logging.LogRecord) -> str:
    """A line whose arguments do not fit still says what it has; logging itself would write a page about it."""
    try:
        return record.getMessage()
    except Exception as wrong:
        return f"{record.msg!s} {record.args!r} ({brief(wrong)})"
