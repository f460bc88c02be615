"""What staff do to a sale that is published or will be: each act once, however often and by however many it is pressed.

Whoever comes second hears who was first. The state of a sale is judged on its locked row. Units are added under a name
that follows from what the form had seen (`last_change`): two forms that saw the same are one restock. A limit is
changed only from the one that the form showed. Each act is a line of `SaleEvent`.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from celery.exceptions import OperationalError
from django.contrib import messages
from django.db import transaction
from django.utils.translation import gettext as _

from inventory import reservations, stock
from inventory.models import Stock, StockChange
from inventory.outcomes import AnswerLost, InventoryUnavailable
from resilience.clock import now_ms
from shop import opening, orders, postman, preheating, sale_events, tasks
from shop.models import Offer, Sale, SaleEvent

#: Units of one restock: a slip of a finger adds no more.
RESTOCK_MAXIMUM = 1_000_000
#: Batches of holds that one press releases; workers sweep the rest each second.
RELEASE_BATCHES = 20
#: Milliseconds after which a worker that says nothing about a step of preheating has lost it.
PREHEAT_MS = 10_000
#: Names of restocks are made in this space: an arbitrary one.
_RESTOCKS = uuid.UUID("5b1b5f0e-6a38-4c39-9d0b-0f5a8f2f7f6e")

_State = Sale.State
#: The state that a verb leaves: a sale that is in it already needs no second press.
LEAVES = {"schedule": _State.SCHEDULED, "pause": _State.PAUSED, "resume": _State.SCHEDULED, "close": _State.CLOSED}


@dataclass(frozen=True, slots=True)
class Heard:
    """What whoever pressed is told; `done` is False when somebody was first, or it was refused."""

    text: str
    done: bool = True
    level: int = messages.SUCCESS


def attempt(act: Callable[[], Heard]) -> Heard:
    """Do it, and answer in words also when it is refused, or when what it needs is away."""
    try:
        return act()
    except opening.NotPossible as reason:
        return Heard(str(reason), done=False, level=messages.ERROR)
    except (InventoryUnavailable, AnswerLost) as away:
        text = _("Stock Redis did not do it, nothing was changed: %s")
        return Heard(text % away, done=False, level=messages.ERROR)
    except OperationalError as away:
        text = _("No worker can be asked: %s. `manage.py` does the same.")
        return Heard(text % away, done=False, level=messages.ERROR)


def _late(text: str) -> Heard:
    return Heard(text, done=False, level=messages.WARNING)


# --- The life of a sale ----------------------------------------------------------------------------------------------


def move(sale: Sale, verb: Callable[[Sale], list[str]], by: object) -> Heard:
    """Schedule, open now, pause, resume or close it. Raises opening.NotPossible, InventoryUnavailable or AnswerLost:
    then nothing was changed."""
    act = verb.__name__
    with transaction.atomic():
        locked = Sale.objects.select_for_update().get(pk=sale.pk)
        if locked.state == LEAVES.get(act):
            return _late(_("%(sale)s is %(state)s already%(first)s.") % _told(locked, _first(locked, act)))
        lines = verb(locked)
        sale_events.by_staff(by, act, locked.slug, detail=", ".join(lines))
    sale.state, sale.opens_at = locked.state, locked.opens_at
    return Heard(_("%(sale)s is %(state)s (%(offers)s).") % {**_told(locked), "offers": ", ".join(lines)})


def _told(sale: Sale, first: str = "") -> dict[str, str]:
    return {"sale": str(sale), "state": sale.get_state_display(), "first": first}


def _first(sale: Sale, act: str) -> str:
    """`: ann was first, at 12:00:01`."""
    line = SaleEvent.objects.filter(sale=sale.slug, act=act).first()
    return "" if line is None else _(": %(by)s was first, at %(at)s") % {"by": line.by, "at": f"{line.at:%H:%M:%S}"}


def preheat(sale: Sale, by: object) -> Heard:
    """Have a worker do it. Raises opening.NotPossible for a draft, OperationalError when no worker can be asked."""
    progress = preheating.Progress.of(sale.slug)
    if progress and progress.is_under_way and now_ms() - progress.at_ms < PREHEAT_MS:
        return _late(_("%s is being preheated already.") % sale)
    preheating.ask(sale, _send_preheat)
    sale_events.by_staff(by, "preheat", sale.slug)
    return Heard(_("%(sale)s is being preheated: its page says how far it is.") % {"sale": sale})


def _send_preheat(slug: str) -> None:
    postman.deliver(lambda: tasks.preheat.apply_async([slug], retry=False))


# --- Units and limits ------------------------------------------------------------------------------------------------


def last_change(offer: Offer) -> str:
    """What a form has seen of the stock's ledger: the id of its last line."""
    line = StockChange.objects.filter(stock=offer.pk).order_by("-created_at").first()
    return "" if line is None else str(line.pk)


def restock(offer: Offer, units: int, *, seen: str, by: object) -> Heard:
    """Add units: never a new total, which would undo what was sold meanwhile.

    Raises opening.NotPossible for a draft or a sale that is over. While stock Redis is away PostgreSQL has the units,
    and a worker tells Redis.
    """
    if offer.sale.state not in opening.RUNNING:
        raise opening.NotPossible(_("Units are added to a sale that is scheduled, open or paused."))
    name = uuid.uuid5(_RESTOCKS, f"{offer.pk} after {seen}")
    try:
        change = stock.change(offer.pk, units, reason="restock", by=str(by), change_id=name)
    except (InventoryUnavailable, AnswerLost):
        sale_events.by_staff(by, "restock", offer.sale.slug, offer, f"{units:+d}, Redis hears later", key=name)
        return Heard(_("PostgreSQL has the units. Stock Redis is away, and hears of them when it is back."))
    if (change.by, change.asked) != (str(by), units):
        return _somebody_restocked(change)
    won = sale_events.by_staff(by, "restock", offer.sale.slug, offer, f"{units:+d}", key=name)
    return (
        Heard(_("%(units)+d units of %(offer)s.") % {"units": units, "offer": offer})
        if won
        else _somebody_restocked(change)
    )


def _somebody_restocked(change: StockChange) -> Heard:
    told = {"by": change.by, "units": change.asked, "at": f"{change.created_at:%H:%M:%S}"}
    text = _("Nothing was added: %(by)s added %(units)+d at %(at)s, after this form was opened. Look again.")
    return _late(text % told)


def change_limit(offer: Offer, unit_limit: int, *, was: int, by: object) -> Heard:
    """How many units a buyer may have from now on. Raises as `inventory.stock.change_limit`."""
    with transaction.atomic():
        limit = Stock.objects.select_for_update().get(pk=offer.pk).unit_limit
        if limit != was:
            text = _("Nothing was changed: the limit is %(limit)d meanwhile, and the form showed %(was)d.")
            return _late(text % {"limit": limit, "was": was})
        stock.change_limit(offer.pk, unit_limit)
        sale_events.by_staff(by, "limit", offer.sale.slug, offer, f"{was} -> {unit_limit}")
    return Heard(_("A buyer may have %(limit)d of %(offer)s.") % {"limit": unit_limit, "offer": offer})


# --- Holds -----------------------------------------------------------------------------------------------------------


def release_expired(sale: Sale, by: object) -> Heard:
    """End the holds that have run out, of all sales, as workers do each second."""
    ended = 0
    for _batch in range(RELEASE_BATCHES):
        batch = reservations.expire_due(orders.expire)
        ended += batch
        if not batch:
            break
    sale_events.by_staff(by, "release", sale.slug, detail=f"{ended} holds")
    return Heard(_("%d holds had run out, and are on sale again.") % ended)
