"""What a shop may ask of the provider, and the ways the provider says no."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

#: Characters of a reference or a key: room for any number a shop makes up, and an error still fits on a line.
MAX_TEXT = 200

#: Characters of an address: what browsers and proxies are sure to carry.
MAX_URL = 2000

#: Minor units of one charge: ten billion in most currencies; a larger number is a mistake.
MAX_AMOUNT_MINOR = 10**12


class Refusal(Exception):
    """The request cannot be granted; its text tells the client why."""

    status = HTTPStatus.BAD_REQUEST


class BadValue(Refusal):
    """A value is missing, unknown, or of the wrong kind."""


class NotSigned(Refusal):
    status = HTTPStatus.UNAUTHORIZED


class NotFound(Refusal):
    status = HTTPStatus.NOT_FOUND


class Conflict(Refusal):
    """The request is understood, and what has happened before forbids it."""

    status = HTTPStatus.CONFLICT


class Unavailable(Refusal):
    status = HTTPStatus.SERVICE_UNAVAILABLE


#: A test of one value, and the words for a value that fails it.
Check = tuple[Callable[[Any], bool], str]


def checked(values: object, checks: dict[str, Check]) -> dict[str, Any]:
    """The values, if they are exactly the ones asked for and each passes its check; else `BadValue`."""
    if not isinstance(values, dict):
        raise BadValue("a JSON object is expected")
    if unknown := values.keys() - checks.keys():
        raise BadValue(f"unknown: {', '.join(sorted(unknown))}")
    if missing := checks.keys() - values.keys():
        raise BadValue(f"missing: {', '.join(sorted(missing))}")

    for name, (passes, description) in checks.items():
        if not passes(values[name]):
            raise BadValue(f"{name} must be {description}")
    return values


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether this is an integer within the bounds; `True` is not one, whatever Python thinks."""
    return type(value) is int and low <= value <= high


def is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def is_web_url(value: object) -> bool:
    """Whether this is an http(s) address that is safe in a header and in a link."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[!-~]+", value) or len(value) > MAX_URL:
        return False
    try:
        address = urlsplit(value)
        return bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def is_currency(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[A-Z]{3}", value) is not None


def is_amount(value: object) -> bool:
    return is_whole(value, 1, MAX_AMOUNT_MINOR)


def is_time(value: object) -> bool:
    return value is None or is_whole(value, 1, 10**15)


TEXT: Check = (is_text, f"1 to {MAX_TEXT} printable characters")
AMOUNT: Check = (is_amount, f"an integer from 1 to {MAX_AMOUNT_MINOR}")
WEB_URL: Check = (is_web_url, f"an http or https address of at most {MAX_URL} characters")


@dataclass(frozen=True, kw_only=True)
class ChargeRequest:
    reference: str
    amount_minor: int
    currency: str
    callback_url: str
    return_url: str
    expires_at_ms: int | None
    idempotency_key: str

    CHECKS = {
        "reference": TEXT,
        "amount_minor": AMOUNT,
        "currency": (is_currency, "three capital letters"),
        "callback_url": WEB_URL,
        "return_url": WEB_URL,
        "expires_at_ms": (is_time, "milliseconds since 1970, or null"),
        "idempotency_key": TEXT,
    }

    @classmethod
    def parse(cls, values: object) -> Self:
        return cls(**checked(values, cls.CHECKS))


@dataclass(frozen=True, kw_only=True)
class RefundRequest:
    charge: str
    amount_minor: int
    idempotency_key: str

    CHECKS = {"charge": TEXT, "amount_minor": AMOUNT, "idempotency_key": TEXT}

    @classmethod
    def parse(cls, values: object) -> Self:
        return cls(**checked(values, cls.CHECKS))
