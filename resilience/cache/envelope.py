"""How an entry travels through memcached and Redis: a header of fixed length, then the value as JSON.

Never pickle: whoever can write to a cache must not be able to run code in the processes that read it.

    1  1795562575733  00030000  000042  9f86d081  j  {"title": ...}
    |  fresh until ms fresh ms  cost ms id        |  j: JSON, z: the same, compressed
    version of this form

The header has no blanks between its parts. `acquire.lua` reads the time out of it, and knows an entry again by it.
"""

import json
import secrets
import zlib
from dataclasses import dataclass
from typing import Any

#: Raised by one when the form changes: entries of another version count as missing.
VERSION = b"1"
HEADER_BYTES = 37
#: Above this a value is compressed: below, its header and its key outweigh what is saved.
COMPRESS_BYTES = 1_024
#: zlib's fastest: three quarters of what the best saves, in a fifth of the time.
COMPRESSION_LEVEL = 1

#: Milliseconds since the epoch of an entry that never goes stale, and the most the other two fields hold.
NEVER_MS = 9_999_999_999_999
FRESH_MAXIMUM_MS = 99_999_999
COST_MAXIMUM_MS = 999_999


class Unreadable(ValueError):
    """Bytes that are no entry of this version: somebody else's, or damaged."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value, until when it is fresh (ms since the epoch), for how long it is in all, and how long its load took (ms).

    `header` names this very entry: no other has the same.
    """

    value: Any
    fresh_until_ms: int
    fresh_ms: int
    cost_ms: int
    header: bytes

    def left_ms(self, now_ms: int) -> int:
        """Milliseconds for which it stays fresh; negative when it is stale. Never more than it ever had, whatever the
        clock of the process that wrote it says."""
        if self.fresh_until_ms == NEVER_MS:
            return FRESH_MAXIMUM_MS
        return min(self.fresh_until_ms - now_ms, self.fresh_ms)


def pack(value: Any, now_ms: int, fresh_seconds: float | None, cost_ms: int = 0) -> bytes:
    """The bytes of a new entry; `fresh_seconds` None for one that never goes stale.

    Raises TypeError for a value that JSON cannot hold.
    """
    fresh_ms = FRESH_MAXIMUM_MS if fresh_seconds is None else int(fresh_seconds * 1000)
    until_ms = NEVER_MS if fresh_seconds is None else min(now_ms + fresh_ms, NEVER_MS - 1)
    body, form = _json(value), b"j"
    if len(body) > COMPRESS_BYTES:
        body, form = zlib.compress(body, COMPRESSION_LEVEL), b"z"
    times = b"%013d%08d%06d" % (until_ms, min(fresh_ms, FRESH_MAXIMUM_MS), min(cost_ms, COST_MAXIMUM_MS))
    return VERSION + times + secrets.token_hex(4).encode() + form + body


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"a cache holds what JSON can: {error}") from error


def unpack(data: bytes) -> Entry:
    """Raises Unreadable."""
    header, body = data[:HEADER_BYTES], data[HEADER_BYTES:]
    if len(header) != HEADER_BYTES or header[:1] != VERSION or not header[1:28].isdigit():
        raise Unreadable(f"no entry of version {VERSION.decode()}: {data[:60]!r}")
    try:
        if header[36:37] == b"z":
            body = zlib.decompress(body)
        value = json.loads(body)
    except (zlib.error, ValueError, RecursionError) as error:
        raise Unreadable(f"a damaged entry: {error}") from error
    return Entry(value, int(header[1:14]), int(header[14:22]), int(header[22:28]), header)
