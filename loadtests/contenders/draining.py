"""Writing down what Redis held, with orders and without."""

from collections.abc import Sequence

from inventory import outbox
from inventory.models import Reservation
from inventory.outbox import PlaceOrders
from inventory.outcomes import Recorded
from loadtests.contenders.selling import hold_for, open_offer
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample
from loadtests.house import House
from shop import orders

#: Events that wait when the drain begins: ten batches.
EVENTS = 5_000


class Drain:
    """A full stream of new buyers, recorded by one process as its worker would: to the last event, in batches."""

    def __init__(self, house: House, with_orders: bool) -> None:
        self._house = house
        self._place: PlaceOrders = orders.place if with_orders else place_none

    def measure(self, seconds: float) -> list[Sample]:
        watch, recorded = Stopwatch(), 0
        while watch.seconds < seconds:
            offer_id = open_offer()
            hold_for(offer_id, self._house.people(EVENTS))
            with watch.running():
                recorded += outbox.drain(offer_id, self._place)
        if Reservation.objects.filter(state="held").count() != recorded:
            raise RuntimeError("the drain did not record what it drained")
        return [Sample(recorded / watch.seconds, "events/s")]


def place_none(held: Sequence[Recorded]) -> dict[str, str]:
    """Numbers, and no orders: what is left is inventory's own part of the drain."""
    return {reservation.pk: "-" for reservation in held}
