"""A person looks at an event that made no sense, and has it recorded after all or gives its units back."""

import pytest

from inventory import dead_letters, effects, outbox, reservations
from inventory.models import DeadEntry, Reservation, Stock
from inventory.outcomes import Wish
from inventory.verification import findings
from shop import orders
from shop.models import Offer, Order
from tests.people import a_crowd, reservation_id


@pytest.fixture
def dead(offer: Offer) -> DeadEntry:
    """A hold whose order could not be made, by a fault of ours; it lies among the dead, and its unit stays held."""

    def broken(_: object) -> dict[str, str]:
        raise RuntimeError("a bug in the order book")

    [buyer] = a_crowd(1)
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])
    outbox.drain(offer.pk, broken)
    return DeadEntry.objects.get()


def test_a_fault_of_ours_buries_its_event_alone(offer: Offer, dead: DeadEntry) -> None:
    """The payload and the error are kept; the events after it are recorded."""
    [buyer] = a_crowd(1)
    reservations.reserve(offer.pk, [Wish(reservation_id(offer), buyer)])

    assert outbox.drain(offer.pk, orders.place) == 1

    assert "a bug in the order book" in dead.error
    assert dead.payload["type"] == "held"
    assert Order.objects.count() == 1


def test_a_replayed_event_becomes_an_order(offer: Offer, dead: DeadEntry) -> None:
    """Mended, the hold is recorded as if nothing had happened; once, however often it is asked for."""
    dead_letters.replay(dead, orders.place)
    dead_letters.replay(dead, orders.place)

    assert Order.objects.count() == Stock.objects.get(pk=offer.pk).held == 1
    assert DeadEntry.objects.get().resolution == "replayed"
    assert findings(offer.pk) == []


def test_a_voided_event_gives_its_unit_back(offer: Offer, dead: DeadEntry) -> None:
    """Its buyer is told `refused`, and the unit is on sale again; once."""
    dead_letters.void(dead)
    dead_letters.void(dead)
    effects.apply_pending()

    standing = reservations.look_up(offer.pk, dead.payload["reservation"])
    assert standing is not None
    assert standing.state == "refused"
    assert Reservation.objects.get().state == "refused"
    assert DeadEntry.objects.get().resolution == "voided"
    assert findings(offer.pk) == []


def test_nonsense_cannot_be_replayed_but_voided(offer: Offer) -> None:
    """An event that names no hold of Redis is closed without moving anything."""
    entry = DeadEntry.objects.create(stock_id=offer.pk, stream_id="1-1", payload={"type": "noise"}, error="-")

    with pytest.raises(dead_letters.NotPossible, match="no sense"):
        dead_letters.replay(entry, orders.place)
    dead_letters.void(entry)

    assert DeadEntry.objects.get().resolution == "voided"
    assert findings(offer.pk) == []
