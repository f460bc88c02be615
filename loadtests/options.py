"""What the person who typed `make load` asks for, read from variables and refused at once when it makes no sense."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.shapes import SHAPES
from shop.local.refusal import Refusal
from shop.local.tools import CHECKOUT

#: Shapes that are not a plan of arrivals, but a report of several.
REPORTS = ("overload",)
#: Of the people, those who cheat, besides them; so that each way of cheating is tried.
CHEATS_SHARE, CHEATS_LEAST = 0.02, 10
#: Units for so many people: a spike leaves most of them without.
PEOPLE_A_UNIT = 4
#: Arrivals a second for so many people, where nothing else is said.
RATE_SHARE = 0.05
#: The largest numbers that mean something on one machine.
USERS_MAXIMUM, SECONDS_MAXIMUM, RATE_MAXIMUM, PROCESSES_MAXIMUM = 1_000_000, 7 * 24 * 3600, 1_000_000, 256
#: Seconds of the shortest load: people come, wait, buy, and unpaid units come back.
SECONDS_LEAST = 10


@dataclass(frozen=True)
class Options:
    shape: str
    users: int
    seconds: float
    quantity: int
    limit: int
    rate: float
    seed: int
    #: Processes of the client on this machine; workers that come from other machines.
    processes: int
    workers: int
    spread_seconds: float
    devices_off_ms: float
    #: Somebody else's shop, its sale, and cookies of its shoppers. Empty: a shop of our own.
    host: str
    sale: str
    shoppers: Path | None
    #: Another checkout of this project, from which the shop of our own is started.
    shop_from: Path
    report: Path

    @property
    def bots(self) -> int:
        return max(CHEATS_LEAST, round(CHEATS_SHARE * self.users))

    @property
    def people(self) -> int:
        return self.users + self.bots

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Options":
        """Raises Refusal with one line for the first variable that makes no sense."""
        shape = environ.get("SHAPE") or "spike"
        known = [*(name for name, shape in SHAPES.items() if not shape.written), *REPORTS]
        if shape not in known:
            raise Refusal(f"SHAPE must be one of {', '.join(known)}, not {shape!r}")
        users = round(_number(environ, "USERS", 2_000, 1, USERS_MAXIMUM))
        shoppers = environ.get("SHOPPERS")
        return cls(
            shape=shape,
            users=users,
            seconds=_number(environ, "SECONDS", 60, SECONDS_LEAST, SECONDS_MAXIMUM),
            quantity=round(_number(environ, "QUANTITY", _units(shape, users), 1, USERS_MAXIMUM)),
            limit=round(_number(environ, "LIMIT", 1, 1, USERS_MAXIMUM)),
            rate=_number(environ, "RATE", max(1.0, RATE_SHARE * users), 1, RATE_MAXIMUM),
            seed=round(_number(environ, "SEED", 1, 0, USERS_MAXIMUM * 1_000)),
            processes=round(_number(environ, "PROCESSES", 2, 1, PROCESSES_MAXIMUM)),
            workers=round(_number(environ, "WORKERS_ELSEWHERE", 0, 0, PROCESSES_MAXIMUM)),
            spread_seconds=_number(environ, "SPREAD_SECONDS", 2, 0, 3_600),
            devices_off_ms=1_000 * _number(environ, "DEVICES_OFF_SECONDS", 0, -86_400, 86_400),
            host=(environ.get("HOST") or "").rstrip("/"),
            sale=environ.get("SALE") or "",
            shoppers=Path(shoppers) if shoppers else None,
            shop_from=CHECKOUT / (environ.get("SHOP_FROM") or "."),
            report=CHECKOUT / (environ.get("REPORT") or f"{environ.get('STATE') or '.state'}/load"),
        )


def _units(shape: str, users: int) -> int:
    """A spike leaves most people without; where people come at random, buying shall go on to the end."""
    return max(1, users // PEOPLE_A_UNIT) if shape in SHAPES and SHAPES[shape].herd else users


def _number(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise Refusal(f"{name} must be a number from {least:g} to {most:g}, not {text!r}")
    return value
