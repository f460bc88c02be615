"""Redis against PostgreSQL: how far apart they are, and what may be repaired without a person.

Only two repairs are automatic, and both are idempotent: recording events that wait, and sending the effects of ended
holds again. Neither can put a unit on sale that PostgreSQL has not released.
"""

from dataclasses import dataclass

from inventory import effects, outbox, stock
from inventory.models import Effect, Stock
from inventory.outbox import PlaceOrders


@dataclass(frozen=True, slots=True)
class Drift:
    """Redis less PostgreSQL, in units; None when Redis does not know the offer."""

    held: int | None
    sold: int | None
    events_waiting: int
    effects_waiting: int

    def __str__(self) -> str:
        if self.held is None:
            return "Redis does not know this offer"
        under_way = f"{self.events_waiting} events and {self.effects_waiting} effects under way"
        return f"drift {self.held:+d} held, {self.sold:+d} sold; {under_way}"


def drift(offer_id: int) -> Drift:
    """How far Redis is from PostgreSQL at this moment; events and effects under way explain some of it."""
    row = Stock.objects.get(pk=offer_id)
    levels = stock.levels([offer_id])[offer_id]
    return Drift(
        held=levels.held - row.held if levels else None,
        sold=levels.sold - row.sold if levels else None,
        events_waiting=outbox.waiting_events([offer_id])[offer_id],
        effects_waiting=Effect.objects.filter(stock_id=offer_id, applied_at=None).count(),
    )


def repair(offer_id: int, place_orders: PlaceOrders) -> str:
    """Record what waits and send every effect of the present epoch again; answers what that came to."""
    waiting = outbox.waiting_events([offer_id])[offer_id]
    recorded = outbox.drain(offer_id, place_orders) if waiting else 0
    epoch = Stock.objects.get(pk=offer_id).epoch
    sent = list(Effect.objects.filter(stock_id=offer_id, epoch=epoch).order_by("pk"))
    settled = 0
    for start in range(0, len(sent), effects.BATCH_EFFECTS):
        batch = sent[start : start + effects.BATCH_EFFECTS]
        words = effects.settle(offer_id, [(effect.reservation_id, effect.kind, effect.epoch) for effect in batch])
        settled += words.count("SETTLED")
    return f"{recorded} events recorded, {settled} lost effects applied"
