"""Reading what a shopper sent, strictly: a form or JSON, small, with whole numbers that are whole numbers."""

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

#: Bytes of a shopper's request: a ticket, an offer and a number take 300.
BODY_MAXIMUM = 4096
#: Units nobody wishes for; the offer's own limit decides long before.
UNITS_MAXIMUM = 1_000_000


class BadWish(Exception):
    """The word that says what is wrong with the request."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


@dataclass(frozen=True, slots=True)
class Wish:
    """The fields of a request as they came, before anybody believes them."""

    fields: dict[str, Any]

    def whole(self, name: str, default: int | None = None, *, most: int = 2**63 - 1) -> int | None:
        """A whole number from 1 to most; the default when the field is left out. Raises BadWish(INVALID)."""
        value = self.fields.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, str):
            if not (value.isascii() and value.isdigit() and len(value) <= 19) or value.startswith("0"):
                raise BadWish("INVALID")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise BadWish("INVALID")
        return value

    def text(self, name: str) -> str:
        """A string, empty when the field is left out. Raises BadWish(INVALID)."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise BadWish("INVALID")
        return value


def read(request: HttpRequest) -> Wish:
    """The body's fields. Raises BadWish: TOO_LARGE, UNSUPPORTED or INVALID."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > BODY_MAXIMUM or len(request.body) > BODY_MAXIMUM:
        raise BadWish("TOO_LARGE")
    match request.content_type:
        case "application/json":
            return Wish(_json(request.body))
        case "application/x-www-form-urlencoded" | "multipart/form-data":
            return Wish({name: values[-1] for name, values in request.POST.lists() if values})
        case "" if not request.body:
            return Wish({})
        case _:
            raise BadWish("UNSUPPORTED")


def _json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadWish("INVALID") from error
    if not isinstance(fields, dict):
        raise BadWish("INVALID")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name come twice, and two readers then believe different things."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name comes twice")
    return fields
