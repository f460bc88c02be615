"""What a verdict is made of: the plan, what clients recorded, the counters over time, both stores' books afterwards.

The stores are read by SQL and Redis commands of this file's own. All of it is data: written as JSON beside the report,
it can be judged again, and tests plant mistakes in it.
"""

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import psycopg
import redis

from loadtests import records
from loadtests.plan import Plan
from loadtests.records import Record
from loadtests.wire import Lost, Place, Wire, request

#: Seconds between two looks at the counters: a twentieth of the second for which units may seem to be gone.
SAMPLE_SECONDS = 0.05
#: Seconds between two looks at the level, and within which one has to be told.
LEVEL_SECONDS = 0.5


class Sample(NamedTuple):
    """The counters at a moment, in ms by Redis's clock."""

    at_ms: int
    quantity: int
    available: int
    held: int
    sold: int
    waiting: int


class Row(NamedTuple):
    """A reservation in PostgreSQL; times in ms, None for what has not happened."""

    buyer: int
    units: int
    state: str
    reserved_at_ms: float
    placed_at_ms: float
    expires_at_ms: float
    ended_at_ms: float | None
    order: str | None


@dataclass
class Books:
    """Both stores after everything under way had time to arrive."""

    quantity: int
    held: int
    sold: int
    reservations: dict[str, Row]
    #: Units counted for each buyer, and the limit that goes for them.
    buyers: dict[int, tuple[int, int]]
    redis: dict[str, int]
    #: State, buyer, units.
    redis_reservations: dict[str, tuple[str, int, int]]
    #: What `manage.py verify` finds broken: promise, offer_id, seen.
    findings: list[dict[str, Any]] = field(default_factory=list)
    now_ms: float = 0.0


@dataclass
class Evidence:
    plan: Plan
    records: list[Record]
    #: None when nobody could look into the stores: then what only they know is not judged.
    samples: list[Sample] | None = None
    books: Books | None = None
    notes: list[str] = field(default_factory=list)
    #: The service's level, whenever another one was seen: ms by this machine's clock, and the level's name.
    levels: list[tuple[int, str]] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        (folder / "records.jsonl").write_text(records.lines(self.records))
        told = {
            "plan": asdict(self.plan),
            "samples": self.samples,
            "books": asdict(self.books) if self.books else None,
            "notes": self.notes,
            "levels": self.levels,
        }
        (folder / "evidence.json").write_text(json.dumps(told))

    @classmethod
    def read(cls, folder: Path) -> Self:
        told = json.loads((folder / "evidence.json").read_text())
        samples, books = told["samples"], told["books"]
        return cls(
            Plan.of(told["plan"]),
            records.read(folder / "records.jsonl"),
            None if samples is None else [Sample(*each) for each in samples],
            None if books is None else _books(**books),
            told["notes"],
            [(at_ms, level) for at_ms, level in told["levels"]],
        )


def _books(reservations: dict[str, list[Any]], buyers: dict[str, Any], redis_reservations: Any, **told: Any) -> Books:
    return Books(
        reservations={name: Row(*row) for name, row in reservations.items()},
        buyers={int(buyer): (units, limit) for buyer, (units, limit) in buyers.items()},
        redis_reservations={name: tuple(each) for name, each in redis_reservations.items()},  # type: ignore[misc]
        **told,
    )


class Witness:
    """Looks into both stores of a shop, by the addresses in this environment."""

    def __init__(self, environment: Mapping[str, str], offer: int, url: str) -> None:
        self._url = url
        self.levels: list[tuple[int, str]] = []
        self._database = environment["DATABASE_URL"]
        self._redis_url = environment["STOCK_REDIS_URL"]
        self.offer = offer
        self._redis = redis.Redis.from_url(self._redis_url, decode_responses=True, socket_timeout=2)
        self.samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> Self:
        """Look at the counters again and again until the block ends."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _keep_looking(self) -> None:
        looks_at_level = 0.0
        while not self._stop.wait(SAMPLE_SECONDS):
            with suppress(redis.RedisError, KeyError):  # a drill has just broken it
                self.samples.append(self.sample())
            if time.monotonic() >= looks_at_level:
                looks_at_level = time.monotonic() + LEVEL_SECONDS
                self._note_level()

    def _note_level(self) -> None:
        """Nothing when nobody says it: that is for other checks to see."""
        with suppress(Lost, OSError):
            wire, place = Wire(Place.of(self._url), LEVEL_SECONDS), Place.of(self._url)
            level = wire.ask(request("GET", "/readyz", place, Accept="application/json")).json().get("level")
            wire.close()
            if level and (not self.levels or self.levels[-1][1] != level):
                self.levels.append((round(time.time() * 1000), str(level)))

    def sample(self) -> Sample:
        """Raises RedisError, or KeyError while Redis knows nothing of the offer."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(f"{{o:{self.offer}}}:units")
            (seconds, microseconds), units = pipe.execute()
        at_ms = seconds * 1000 + microseconds // 1000
        return Sample(at_ms, *(int(units[name]) for name in ("quantity", "available", "held", "sold", "waiting")))

    def at_rest(self) -> bool:
        """Nothing is under way between the stores, and no hold is waiting for its end."""
        try:
            sample = self.sample()
            with psycopg.connect(self._database, connect_timeout=2) as connection:
                [waiting] = connection.execute(_UNDER_WAY, {"offer": self.offer}).fetchone() or (1,)
        except (redis.RedisError, KeyError, psycopg.Error):
            return False
        return sample.waiting == 0 and sample.held == 0 and waiting == 0

    def books(self) -> Books:
        units = {
            name: int(value)
            for name, value in self._redis.hgetall(f"{{o:{self.offer}}}:units").items()
            if value.lstrip("-").isdigit()
        }
        with psycopg.connect(self._database) as connection:
            stock = connection.execute(_STOCK, {"offer": self.offer}).fetchone() or (0, 0, 0)
            rows = connection.execute(_RESERVATIONS, {"offer": self.offer}).fetchall()
            buyers = connection.execute(_BUYERS, {"offer": self.offer}).fetchall()
        return Books(
            *stock,
            reservations={row[0]: Row(*row[1:]) for row in rows},
            buyers={buyer: (has, limit) for buyer, has, limit in buyers},
            redis=units,
            redis_reservations=dict(self._redis_reservations()),
            now_ms=time.time() * 1000,
        )

    def _redis_reservations(self) -> list[tuple[str, tuple[str, int, int]]]:
        found = []
        for name, record in self._redis.hscan_iter(f"{{o:{self.offer}}}:reservations", count=1000):
            state, buyer, units = record.split(":")[:3]
            found.append((name, (state, int(buyer), int(units))))
        return found


_UNDER_WAY = """
    SELECT (SELECT count(*) FROM inventory_effect WHERE stock_id = %(offer)s AND applied_at IS NULL)
         + (SELECT count(*) FROM inventory_reservation WHERE stock_id = %(offer)s AND state = 'held')
         + (SELECT count(*) FROM shop_payment p JOIN shop_order o ON o.id = p.order_id
             WHERE o.offer_id = %(offer)s AND p.state = 'late')
"""
_STOCK = "SELECT quantity, held, sold FROM inventory_stock WHERE id = %(offer)s"
_BUYERS = "SELECT buyer_id, units, unit_limit FROM inventory_buyerunits WHERE stock_id = %(offer)s"
_RESERVATIONS = """
    SELECT DISTINCT ON (r.id) r.id, r.buyer_id, r.units, r.state, extract(epoch FROM r.reserved_at)::float * 1000,
           extract(epoch FROM r.placed_at)::float * 1000, extract(epoch FROM r.expires_at)::float * 1000,
           extract(epoch FROM r.ended_at)::float * 1000, o.state
      FROM inventory_reservation r
      LEFT JOIN shop_order_earlier e ON e.reservation_id = r.id
      LEFT JOIN shop_order o ON o.reservation_id = r.id OR o.id = e.order_id
     WHERE r.stock_id = %(offer)s
"""
