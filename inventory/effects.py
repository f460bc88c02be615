"""Telling Redis what PostgreSQL decided: effects are sent at least once, and settle each reservation exactly once."""

from itertools import groupby

from django.db import transaction
from django.db.models.functions import Now

from inventory import _keys
from inventory._scripts import Script
from inventory.models import Effect
from resilience import failpoint

#: Effects sent in one script call: about a millisecond of Redis.
BATCH_EFFECTS = 200

_settle = Script("settle.lua")


def apply_pending() -> int:
    """Apply every effect that waits; answers how many. Several workers may do so at once.

    A crash between Redis and the mark in PostgreSQL sends an effect again, which changes nothing. Raises
    InventoryUnavailable or AnswerLost when Redis is away: the effects wait.
    """
    applied = 0
    while batch := _apply_batch():
        applied += batch
    return applied


def _apply_batch() -> int:
    with transaction.atomic():
        waiting = list(
            Effect.objects.select_for_update(skip_locked=True).filter(applied_at=None).order_by("pk")[:BATCH_EFFECTS]
        )
        for stock_id, effects in groupby(sorted(waiting, key=lambda e: e.stock_id), key=lambda e: e.stock_id):
            failpoint.hit("settle.asked")
            settle(stock_id, [(e.reservation_id, e.kind, e.epoch) for e in effects])
            failpoint.hit("settle.told")
        Effect.objects.filter(pk__in=[effect.pk for effect in waiting]).update(applied_at=Now())
    return len(waiting)


def is_told(reservation_id: str) -> bool:
    """Whether Redis has heard of the end of a hold, so that its units and its buyer's limit are free there too."""
    return not Effect.objects.filter(reservation_id=reservation_id, applied_at=None).exists()


def settle(offer_id: int, endings: list[tuple[str, str, int]]) -> list[str]:
    """End holds in Redis: (reservation id, ending, epoch) each. Answers SETTLED, UNKNOWN or STALE for each."""
    if not endings:
        return []
    keys = [_keys.units(offer_id), _keys.reservations(offer_id), _keys.buyers(offer_id)]
    return list(_settle(keys, [value for ending in endings for value in ending]))
