"""Ten thousand buyers who do not pay: from the deadline until the last unit is on sale again."""

from datetime import timedelta

from django.db.models.functions import Now

from inventory import effects, outbox, reservations, stock
from inventory.models import BuyerUnits, Effect, Reservation
from loadtests.contenders.selling import hold_for, open_offer
from loadtests.contenders.stopwatch import Stopwatch
from loadtests.figures import Sample
from loadtests.house import House
from shop import orders

#: Holds that run out at the same moment.
HOLDS = 10_000


class Expiry:
    """One process sweeps and settles in turn, as a worker with one process does when it is rung; the beat that starts
    the first sweep comes within a second more."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        del seconds
        offer_id = open_offer(HOLDS)
        hold_for(offer_id, self._house.people(HOLDS))
        outbox.drain(offer_id, orders.place)
        Reservation.objects.update(expires_at=Now() - timedelta(seconds=1))

        watch = Stopwatch()
        with watch.running():
            while reservations.expire_due(orders.expire):
                effects.apply_pending()
        return [Sample(watch.seconds, "s"), Sample(_not_exactly_once(offer_id), "units", "not exactly once")]


def _not_exactly_once(offer_id: int) -> int:
    """Units that came back twice or not at all, by every count there is of them."""
    levels = stock.levels([offer_id])[offer_id]
    assert levels is not None
    expired = Reservation.objects.filter(stock=offer_id, state=Reservation.State.EXPIRED)
    told = Effect.objects.filter(stock=offer_id, kind=Effect.Kind.EXPIRE).exclude(applied_at=None)
    still_had = BuyerUnits.objects.filter(stock=offer_id, units__gt=0).count()
    counts = [levels.available, expired.count(), told.count(), HOLDS - still_had]
    return max(abs(HOLDS - count) for count in counts)
