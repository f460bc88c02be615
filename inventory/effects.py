"""Telling Redis what PostgreSQL decided: effects are sent at least once, and settle each reservation exactly once."""

import logging

from django.db import transaction
from django.db.models.functions import Now
from redis.exceptions import ResponseError

from inventory import _keys
from inventory._scripts import Script
from inventory.models import Effect
from resilience import failpoint
from resilience.empty import nothing_for_nothing

#: Effects sent in one script call: about a millisecond of Redis.
BATCH_EFFECTS = 200

_settle = Script("settle.lua")

logger = logging.getLogger(__name__)


def apply_pending() -> int:
    """Apply every effect that waits; answers how many. Several workers may do so at once.

    A crash between Redis and the mark in PostgreSQL sends an effect again, which changes nothing. Raises
    InventoryUnavailable or AnswerLost when Redis is away: the effects wait. An offer whose data in Redis are broken
    keeps its own effects waiting, with a line in the log, and nobody else's.
    """
    waiting = Effect.objects.filter(applied_at=None).order_by("stock_id").values_list("stock_id", flat=True)
    return sum(_apply_all_of(offer_id) for offer_id in list(waiting.distinct()))


def _apply_all_of(offer_id: int) -> int:
    applied = 0
    try:
        while batch := _apply_batch(offer_id):
            applied += batch
    except ResponseError as broken:
        logger.error("offer %s: its effects cannot be applied: %s", offer_id, broken)
    return applied


def _apply_batch(offer_id: int) -> int:
    with transaction.atomic():
        free = Effect.objects.select_for_update(skip_locked=True)
        waiting = list(free.filter(stock_id=offer_id, applied_at=None).order_by("pk")[:BATCH_EFFECTS])
        failpoint.hit("settle.asked")
        settle(offer_id, [(effect.reservation_id, effect.kind, effect.epoch) for effect in waiting])
        failpoint.hit("settle.told")
        Effect.objects.filter(pk__in=[effect.pk for effect in waiting]).update(applied_at=Now())
    return len(waiting)


def is_told(reservation_id: str) -> bool:
    """Whether Redis has heard of the end of a hold, so that its units and its buyer's limit are free there too."""
    return not Effect.objects.filter(reservation_id=reservation_id, applied_at=None).exists()


@nothing_for_nothing(of="endings", returns=list)
def settle(offer_id: int, endings: list[tuple[str, str, int]]) -> list[str]:
    """End holds in Redis: (reservation id, ending, epoch) each. Answers SETTLED, UNKNOWN or STALE for each."""
    keys = [_keys.units(offer_id), _keys.reservations(offer_id), _keys.buyers(offer_id)]
    return list(_settle(keys, [value for ending in endings for value in ending]))
