"""Small signed records that travel through the shopper's hands: tickets, buyer cookies, receipts.

A sealed record is fixed-length bytes and a cut HMAC-SHA256, in the URL alphabet of base64 without padding:

    kind (1 byte) | key number (1 byte) | fields (big-endian struct) | first 16 bytes of the MAC over all before it

Only the one canonical spelling is accepted: Python's decoder ignores foreign characters and unused last bits, and a
record with two spellings would have two identities in limits and logs.
"""

import base64
import binascii
import hmac
import re
import struct
from typing import Any

#: Bytes of the MAC that are kept: 2^128 guesses are as good as 2^256 here, and the record stays short.
MAC_BYTES = 16

_ALPHABET = re.compile(r"\A[A-Za-z0-9_-]+\Z")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#: The decoder written in C knows the other alphabet only.
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class Forged(Exception):
    """The record was not sealed by us, or has been touched since."""


class Seal:
    """Seals and opens records of one kind. The first key seals; all of them open, so that keys can be rotated."""

    def __init__(self, kind: bytes, layout: str, keys: list[str]) -> None:
        self._kind = kind
        self._layout = struct.Struct(">" + layout)
        self._key = keys[0].encode()
        self._number = _key_number(self._key)
        #: The first byte after the kind -> the keys that it may mean: as a rule one.
        self._keys: dict[int, list[bytes]] = {}
        for key in keys:
            self._keys.setdefault(_key_number(key.encode())[0], []).append(key.encode())
        sealed_bytes = len(kind) + 1 + self._layout.size + MAC_BYTES
        #: Characters of every record of this kind: checked before anything else is done with one.
        self.length = -(-sealed_bytes * 4 // 3)
        unused_bits = self.length * 6 - sealed_bytes * 8
        #: What the canonical spelling may end with: bits that stand for nothing are nought.
        self._ends = frozenset(_LETTERS[:: 1 << unused_bits])
        self._padding = b"=" * (-self.length % 4)

    def close(self, *fields: Any) -> str:
        """Seal the fields. Raises struct.error when they do not fit the layout."""
        record = self._kind + self._number + self._layout.pack(*fields)
        return _spell(record + _mac(self._key, record))

    def open(self, sealed: str) -> tuple[Any, ...]:
        """The fields. Raises Forged for anything that `close` did not return with one of our keys."""
        return self._layout.unpack_from(self._verified(sealed), 2)

    def _verified(self, sealed: str) -> bytes:
        if len(sealed) != self.length or sealed[-1] not in self._ends or not _ALPHABET.match(sealed):
            raise Forged
        try:
            raw = binascii.a2b_base64(sealed.encode().translate(_TO_STANDARD) + self._padding)
        except binascii.Error as error:
            raise Forged from error

        record, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        if record[:1] != self._kind:
            raise Forged
        for key in self._keys.get(record[1], ()):
            if hmac.compare_digest(mac, _mac(key, record)):
                return record
        raise Forged


def _key_number(key: bytes) -> bytes:
    """One byte that says which key sealed a record, whatever its place in the list today."""
    return hmac.digest(key, b"key number", "sha256")[:1]


def _mac(key: bytes, record: bytes) -> bytes:
    return hmac.digest(key, record, "sha256")[:MAC_BYTES]


def _spell(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
