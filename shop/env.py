"""Typed readers of environment variables that fail loudly at start.

`make up` writes the addresses of its servers to `$STATE/env` and generated keys to `$STATE/secrets`; `fill_from`
takes from there what the environment leaves unset, so that a second terminal just works.
"""

import os
from collections.abc import Mapping, MutableMapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

#: Digits of a number that means something here.
DIGITS_MAXIMUM = 12
#: A minute's requests, or a burst, beyond which there is no limit any more: a million a second.
RATE_MAXIMUM = 60_000_000
#: Bytes of a signing key. HMAC-SHA256 gains nothing from more, and loses its strength with fewer.
KEY_LENGTH_MINIMUM = 32


#: Names that were read here, or put into the environment.
_taken: set[str] = set()


class BadSetting(SystemExit):
    """A variable is missing or makes no sense. The message is one line for the person who set it.

    It ends whatever reads the settings, a web server or a worker too: that line is all they have to say.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


def fill_from(path: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Take from a file of KEY=value lines each variable that the environment leaves unset."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(str(path), f"cannot be read ({error})") from error

    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            _taken.add(name)
            environment.setdefault(name, value)


def forget() -> None:
    """Take all that was read here out of the environment, the keys among it: who serves WSGI copies the environment
    into that of each request, where whatever prints a request would print them."""
    for name in _taken:
        os.environ.pop(name, None)


def _value(name: str, default: str | None = None) -> str | None:
    _taken.add(name)
    return os.environ.get(name, default)


def text(name: str, default: str | None = None) -> str:
    """The variable as it is. Raises BadSetting when it is unset and has no default."""
    value = _value(name, default)
    if value is None:
        raise BadSetting(name, "is not set. `make up` sets it; in production set it yourself (see README)")
    return value


def whole(name: str, default: int, *, least: int = 0, most: int) -> int:
    """A whole number between least and most."""
    value = _value(name)
    if value is None:
        return default
    if not _is_between(value, (least, most)):
        raise BadSetting(name, f"must be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def flag(name: str, *, default: bool) -> bool:
    """`on` or `off`."""
    value = text(name, "on" if default else "off")
    if value not in ("on", "off"):
        raise BadSetting(name, f"must be on or off, not {value!r}")
    return value == "on"


def choice(name: str, options: tuple[str, ...], default: str) -> str:
    """One of the options."""
    value = text(name, default)
    if value not in options:
        raise BadSetting(name, f"must be one of {', '.join(options)}, not {value!r}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list, without its blanks."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """A comma-separated list of networks, or of single addresses."""
    try:
        return [ip_network(word) for word in words(name)]
    except ValueError as error:
        raise BadSetting(name, f"must be networks like 10.0.0.0/8 or 2001:db8::/32: {error}") from error


def rate(name: str, default: str) -> tuple[int, int]:
    """`120/20`: so many a minute, and so many at once."""
    value = text(name, default)
    a_minute, slash, burst = value.partition("/")
    if not (slash and all(_is_between(part, (1, RATE_MAXIMUM)) for part in (a_minute, burst))):
        raise BadSetting(
            name,
            f"must be so many a minute and so many at once, each from 1 to {RATE_MAXIMUM}, like {default},"
            f" not {value!r}",
        )
    return int(a_minute), int(burst)


def numbers(name: str, default: str, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, ...]:
    """`3/50/10`: a whole number for each of the ranges, in their order; a range is named by its unit."""
    value = text(name, default)
    parts = value.split("/")
    if len(parts) != len(ranges) or not all(map(_is_between, parts, ranges.values())):
        wanted = " / ".join(f"{what} from {least} to {most}" for what, (least, most) in ranges.items())
        raise BadSetting(name, f"must be {wanted}, like {default}, not {value!r}")
    return tuple(map(int, parts))


def _is_between(value: str, bounds: tuple[int, int]) -> bool:
    least, most = bounds
    return value.isascii() and value.isdigit() and len(value) <= DIGITS_MAXIMUM and least <= int(value) <= most


def keys(name: str) -> list[str]:
    """Signing keys, comma-separated: the first one signs, all of them verify. Weak ones are refused."""
    found = words(name)
    if not found:
        raise BadSetting(name, "is not set. `make up` generates it; in production set it yourself (see README)")
    for key in found:
        if len(key) < KEY_LENGTH_MINIMUM or len(set(key)) < KEY_LENGTH_MINIMUM // 4:
            raise BadSetting(name, f"a key is weak: {KEY_LENGTH_MINIMUM} or more random characters are needed")
    return found
