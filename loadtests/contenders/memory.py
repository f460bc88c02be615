"""What a reservation costs in Redis: in memory, key by key, and in the log on disk."""

from inventory import _keys, outbox
from loadtests.contenders.selling import hold_for, open_offer
from loadtests.figures import Sample
from loadtests.house import House
from shop import orders

#: Enough for the figure to be that of a large sale: hash tables and stream nodes are filled as they will be.
RESERVATIONS = 100_000
#: Of which each key's part is told.
KEYS = {"units": _keys.units, "reservations": _keys.reservations, "buyers": _keys.buyers, "events": _keys.events}


class Memory:
    """Bytes a reservation after all are held and drained: placed, with number and deadline, events not yet trimmed."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        del seconds
        offer_id, log_before = open_offer(), self._log_bytes()
        hold_for(offer_id, self._house.people(RESERVATIONS))
        log_held = self._log_bytes()
        outbox.drain(offer_id, orders.place)
        log_drained = self._log_bytes()

        by_key = {name: self._bytes(key(offer_id)) for name, key in KEYS.items()}
        return [
            Sample(sum(by_key.values()) / RESERVATIONS, "B"),
            *(Sample(size / RESERVATIONS, "B", name) for name, size in by_key.items()),
            Sample((log_held - log_before) / RESERVATIONS, "B", "log, held"),
            Sample((log_drained - log_held) / RESERVATIONS, "B", "log, drained"),
        ]

    def _bytes(self, key: str) -> int:
        return int(self._house.redis.memory_usage(key, samples=0) or 0)

    def _log_bytes(self) -> int:
        return int(self._house.redis.info("persistence")["aof_current_size"])
