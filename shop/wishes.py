"""Reading what a shopper sent, strictly: a form or JSON, small, with whole numbers that are whole numbers."""

import json
from io import BytesIO
from typing import Any, NamedTuple

from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent
from django.http import QueryDict, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from shop.asked import Asked

#: Bytes of a shopper's request: a ticket, an offer and a number take 300.
BODY_MAXIMUM = 4096
#: Digits of a number that may be one of ours: 2^63 - 1 has so many.
DIGITS_MAXIMUM = 19
#: Units nobody wishes for; the offer's own limit decides long before.
UNITS_MAXIMUM = 1_000_000


class BadWish(Exception):
    """The word that says what is wrong with the request."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Wish(NamedTuple):
    """The fields of a request as they came, before anybody believes them."""

    fields: dict[str, Any]

    def whole(self, name: str, default: int | None = None, *, most: int = 2**63 - 1) -> int | None:
        """A whole number from 1 to most; the default when the field is left out. Raises BadWish(INVALID)."""
        if name not in self.fields:
            return default
        value = self.fields[name]
        if isinstance(value, str):
            value = _digits(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise BadWish("INVALID")
        return value

    def text(self, name: str) -> str:
        """A string, empty when the field is left out. Raises BadWish(INVALID)."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise BadWish("INVALID")
        return value


def read(asked: Asked) -> Wish:
    """The body's fields. Raises BadWish: TOO_LARGE, UNSUPPORTED or INVALID."""
    body = whole_body(asked, BODY_MAXIMUM)
    kind, parameters = asked.content_type
    match kind:
        case "application/json":
            return Wish(_json(body))
        case "application/x-www-form-urlencoded":
            return Wish(_form(_query(body, parameters.get("charset", "utf-8"))))
        case "multipart/form-data":
            return Wish(_form(_parts(asked, body)))
        case "" if not body:
            return Wish({})
        case _:
            raise BadWish("UNSUPPORTED")


def whole_body(asked: Asked, most: int) -> bytes:
    """The raw body, all of it, of at most so many bytes. Raises BadWish: TOO_LARGE or INVALID."""
    length = _digits(asked.environ.get("CONTENT_LENGTH") or "0")
    if length > most:
        raise BadWish("TOO_LARGE")
    try:
        return asked.read(length)
    except (UnreadablePostError, OSError) as error:  # the sender hung up half-way
        raise BadWish("INVALID") from error


def _digits(text: str) -> int:
    """The number that plain digits spell. Python's int() also takes signs, spaces, underscores and other scripts."""
    spelled_so = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAXIMUM
    if not spelled_so or (text.startswith("0") and text != "0"):
        raise BadWish("INVALID")
    return int(text)


def _json(body: bytes) -> dict[str, Any]:
    """An object in UTF-8; Python's reader, given bytes, would also guess UTF-16 and swallow a byte order mark."""
    try:
        fields = _read_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise BadWish("INVALID") from error
    if not isinstance(fields, dict):
        raise BadWish("INVALID")
    return fields


def _query(body: bytes, charset: str) -> QueryDict:
    """A form's fields: in UTF-8, as the standard says, whatever else a header may name."""
    if charset.lower() not in ("utf-8", "utf8"):
        raise BadWish("INVALID")
    try:
        return QueryDict(body, encoding="utf-8")
    except TooManyFieldsSent as error:
        raise BadWish("INVALID") from error


def _parts(asked: Asked, body: bytes) -> QueryDict:
    """The fields of a form that could carry files, which nobody here wants."""
    try:
        fields, _files = MultiPartParser(asked.environ, BytesIO(body), [], "utf-8").parse()
    except (MultiPartParserError, BadRequest, RequestDataTooBig, TooManyFieldsSent, ValueError) as error:
        raise BadWish("INVALID") from error
    return fields


def _form(posted: QueryDict) -> dict[str, Any]:
    try:
        return _unique([(name, value) for name, values in posted.lists() for value in values])
    except ValueError as error:
        raise BadWish("INVALID") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON and forms let a name come twice, and two readers then believe different things."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name comes twice")
    return fields


#: Made once: `json.loads` makes a decoder each time that it is told of a hook.
_read_json = json.JSONDecoder(object_pairs_hook=_unique).decode
