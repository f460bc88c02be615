"""Power fails while stock Redis writes its log: wherever the last write was torn, what is left agrees with itself."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import redis
from django.db import transaction

from inventory import effects, outbox, recovery, reservations, stock
from inventory.models import Stock
from inventory.outcomes import Wish
from inventory.verification import findings
from shop import orders
from shop.models import Offer, Order, Sale
from tests.faults.sizes import SEED
from tests.people import a_crowd, reservation_id
from tests.private_redis import PrivateRedis

#: Places at which the log is cut.
CUTS = 60
#: Things that happen in the sale that is cut: some hundred writes, and as many kilobytes of log.
HAPPENINGS = 150


def happen(offer: Offer, choice: Random) -> None:
    """A piece of a sale's life, of every kind that writes to Redis."""
    buyers = a_crowd(60)
    for _ in range(HAPPENINGS):
        match choice.choice(["reserve", "reserve", "reserve", "drain", "end", "settle", "change"]):
            case "reserve":
                crowd = choice.sample(buyers, choice.randint(1, 5))
                wishes = [Wish(reservation_id(offer), buyer, choice.randint(1, 3)) for buyer in crowd]
                reservations.reserve(offer.pk, wishes)
            case "drain":
                outbox.drain(offer.pk, orders.place)
            case "end":
                end_an_order(choice)
            case "settle":
                effects.apply_pending()
            case "change":
                stock.change(offer.pk, choice.choice([-4, -1, 2, 5]), reason="test", by="staff")


def end_an_order(choice: Random) -> None:
    for order in Order.objects.filter(state=Order.State.AWAITING_PAYMENT).order_by("?")[:1]:
        with transaction.atomic():
            choice.choice([orders.pay, orders.cancel])(order)


def disagreements(client: redis.Redis, offer: Offer) -> list[str]:
    """Where counters, records, buyers and stream of one Redis contradict each other."""
    tag = f"{{o:{offer.pk}}}"
    units = client.hgetall(f"{tag}:units")
    if not units:
        return [key for key in client.scan_iter(f"{tag}:*") if key != f"{tag}:events"]
    quantity, available, held, sold, taken, waiting = (
        int(units[name]) for name in ("quantity", "available", "held", "sold", "taken", "waiting")
    )
    records = [value.split(":") for value in client.hgetall(f"{tag}:reservations").values()]
    by_state, by_buyer = Counter[str](), Counter[str]()
    for state, buyer, its_units, *_ in records:
        by_state[state] += int(its_units)
        by_buyer[buyer] += int(its_units) if state in ("held", "placed", "paid") else 0
    events = client.xrange(f"{tag}:events")
    buyers = {buyer: int(value.split(":")[0]) for buyer, value in client.hgetall(f"{tag}:buyers").items()}
    checks = {
        "quantity": (quantity, available + held + sold),
        "no fewer than none": (min(available, held, sold), max(0, min(available, held, sold))),
        "held": (held, by_state["held"] + by_state["placed"]),
        "sold": (sold, by_state["paid"]),
        "taken": (taken, by_state.total()),
        "events": (sum(int(fields["units"]) for _, fields in events), by_state.total()),
        "buyers": (buyers, {buyer: has for buyer, has in by_buyer.items() if has}),
        "waiting": (waiting, unacknowledged(client, f"{tag}:events", len(events))),
    }
    return [f"{name}: {one} is not {other}" for name, (one, other) in checks.items() if one != other]


def unacknowledged(client: redis.Redis, stream: str, length: int) -> int:
    """Events that nobody has read, or read and not acknowledged. None is trimmed here."""
    [group] = client.xinfo_groups(stream)
    read = len(client.xrange(stream, max=group["last-delivered-id"]))
    return length - read + int(group["pending"])


def test_a_log_that_was_cut_anywhere_is_a_moment_of_the_sale(
    private: PrivateRedis, make_sale: Callable[..., Sale], tmp_path: Path
) -> None:
    """At sixty places: counters, holds and stream agree, no recorded hold is lost unnoticed, and the sale goes on."""
    choice = Random(SEED)
    with private.running():
        offer = make_sale(quantity=40, limit=4).offers.get()
        happen(offer, choice)
    saved = shutil.copytree(private.folder, tmp_path / "saved")
    before = Stock.objects.get(pk=offer.pk)
    recorded = set(before.reservations.values_list("pk", flat=True))
    size = private.log.stat().st_size

    for at in sorted((choice.randrange(size) for _ in range(CUTS)), reverse=True):
        cut(private, saved, at)
        with private.running() as client:
            wrong = disagreements(client, offer)
            assert wrong == [], f"SEED={SEED}, cut at {at} of {size} bytes"
            known = set(client.hkeys(f"{{o:{offer.pk}}}:reservations"))
            assert recovery.has_lost_data(before) or recorded <= known, f"SEED={SEED}, cut at {at}: not noticed"
            recovery.rebuild(offer.pk, orders.place)
            effects.apply_pending()
            assert findings(offer.pk) == [], f"SEED={SEED}, cut at {at} of {size} bytes"


def cut(private: PrivateRedis, saved: Path, at: int) -> None:
    """The folder as it was saved, with the log ending after so many bytes."""
    shutil.rmtree(private.folder)
    shutil.copytree(saved, private.folder)
    with private.log.open("r+b") as log:
        log.truncate(at)
