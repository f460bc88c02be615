"""How an entry travels through memcached and Redis: a header of fixed length, then the value as JSON.

Never pickle: whoever can write to a cache must not be able to run code in the processes that read it.

    1  1795562575733  00030000  000042  9f86d081  j  {"title": ...}
    |  fresh until ms fresh ms  cost ms id        |  j: JSON, z: the same, compressed
    version of this form

The header has no blanks between its parts. `acquire.lua` reads the time out of it, and knows an entry again by it.
"""

import itertools
import json
import secrets
import zlib
from collections.abc import Mapping
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


#: Between two values of a batch: a number that no entry contains, so that a damaged one cannot pass for two.
_BETWEEN = secrets.randbits(52)

#: Part of each header; together with its times it makes an entry unlike any other.
_ids = itertools.count(secrets.randbits(32))


class Unreadable(ValueError):
    """Bytes that are no entry of this version: somebody else's, or damaged."""


class Entry:
    """A value, until when it is fresh (ms since the epoch), for how long it is in all, and how long its load took (ms).

    `header` names this very entry: no other has the same. (No dataclass: a batch makes tens of thousands.)
    """

    __slots__ = ("cost_ms", "fresh_ms", "fresh_until_ms", "header", "value")

    def __init__(self, value: Any, header: bytes) -> None:
        self.value = value
        self.fresh_until_ms = int(header[1:14])
        self.fresh_ms = int(header[14:22])
        self.cost_ms = int(header[22:28])
        self.header = header

    def left_ms(self, now_ms: int) -> int:
        """Milliseconds for which it stays fresh; negative when it is stale. Never more than it ever had, whatever the
        clock of the process that wrote it says."""
        if self.fresh_until_ms == NEVER_MS:
            return FRESH_MAXIMUM_MS
        return min(self.fresh_until_ms - now_ms, self.fresh_ms)


def pack(value: Any, now_ms: int, fresh_seconds: float | None, cost_ms: int = 0) -> bytes:
    """The bytes of a new entry; `fresh_seconds` None for one that never goes stale, 0 or less for one that is stale.

    Raises TypeError for a value that JSON cannot hold.
    """
    fresh_ms = FRESH_MAXIMUM_MS if fresh_seconds is None else max(0, int(fresh_seconds * 1000))
    until_ms = NEVER_MS if fresh_seconds is None else min(now_ms + fresh_ms, NEVER_MS - 1)
    body, form = _json(value), b"j"
    if len(body) > COMPRESS_BYTES:
        body, form = zlib.compress(body, COMPRESSION_LEVEL), b"z"
    times = b"%013d%08d%06d" % (until_ms, min(fresh_ms, FRESH_MAXIMUM_MS), min(cost_ms, COST_MAXIMUM_MS))
    return VERSION + times + b"%08x" % (next(_ids) & 0xFFFF_FFFF) + form + body


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"a cache holds what JSON can: {error}") from error


def unpack(data: bytes) -> Entry:
    """Raises Unreadable."""
    header = _header(data)
    try:
        return Entry(json.loads(_body(header, data)), header)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"a damaged entry: {error}") from error


def unpack_many(data: Mapping[str, bytes]) -> tuple[dict[str, Entry], dict[str, Unreadable]]:
    """The entries, and what is wrong with the others. All JSON is read as one list, which takes half the time of one by
    one; only if that fails each is read by itself."""
    headers, bodies, broken = {}, [], {}
    for name, each in data.items():
        try:
            header = _header(each)
            bodies.append(_body(header, each))
            headers[name] = header
        except Unreadable as error:
            broken[name] = error
    values = _all_at_once(bodies)
    if values is None:
        return _one_by_one({name: data[name] for name in headers}, broken)
    return {name: Entry(value, headers[name]) for name, value in zip(headers, values, strict=True)}, broken


def _all_at_once(bodies: list[bytes]) -> list[Any] | None:
    """Their values; None when one of them is not exactly one value."""
    try:
        values = json.loads(b"[" + (b",%d," % _BETWEEN).join(bodies) + b"]")
    except (ValueError, RecursionError):
        return None
    as_it_should_be = len(values) == max(0, 2 * len(bodies) - 1) and all(map(_BETWEEN.__eq__, values[1::2]))
    return values[::2] if as_it_should_be else None


def _one_by_one(
    data: Mapping[str, bytes], broken: dict[str, Unreadable]
) -> tuple[dict[str, Entry], dict[str, Unreadable]]:
    entries = {}
    for name, each in data.items():
        try:
            entries[name] = unpack(each)
        except Unreadable as error:
            broken[name] = error
    return entries, broken


def _header(data: bytes) -> bytes:
    header = data[:HEADER_BYTES]
    if len(header) != HEADER_BYTES or header[:1] != VERSION or not header[1:28].isdigit():
        raise Unreadable(f"no entry of version {VERSION.decode()}: {data[:60]!r}")
    return header


def _body(header: bytes, data: bytes) -> bytes:
    if header[36:] != b"z":
        return data[HEADER_BYTES:]
    try:
        return zlib.decompress(data[HEADER_BYTES:])
    except zlib.error as error:
        raise Unreadable(f"a damaged entry: {error}") from error
