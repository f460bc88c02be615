"""Reconcile a sale from the console, where nobody can wait half a minute between two looks.

The dry run is the first look. What it found travels, signed, through the form and back, and counts as the first of the
two equal audits that units need which are added to what is on sale. All other repairs are done at once.
"""

from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

from django.core import signing
from django.utils.translation import gettext as _

from inventory import reconciliation
from inventory.reconciliation import AUDITS_APART_SECONDS, UnderWay
from resilience.clock import now_ms
from shop import orders, sale_events
from shop.models import Offer, Sale

#: Seconds after which a first look says nothing any more.
LOOK_SECONDS = 600
_SALT = "shop.second_look"


class TooSoon(Exception):
    """It adds units to what is on sale, and the two looks are not yet equal, or not far enough apart."""


@dataclass(frozen=True, slots=True)
class Look:
    """A dry run: a line for each offer, and what the counters of Redis were and should be, to be shown again."""

    lines: list[str]
    signed: str


def look(sale: Sale) -> Look:
    """Raises InventoryUnavailable when stock Redis is away."""
    lines, found = [], {}
    for offer in _offers(sale):
        try:
            audit = reconciliation.audit(offer.pk)
        except UnderWay as reason:
            lines.append(
                _("%(offer)s: %(reason)s, look again in a moment") % {"offer": offer.product, "reason": reason}
            )
        else:
            lines.append(f"{offer.product}: {audit}")
            found[str(offer.pk)] = _counters(audit)
    return Look(lines, signing.dumps([now_ms(), found], salt=_SALT))


def repair(sale: Sale, signed: str, by: object) -> list[str]:
    """Resend, record, correct; answers a line for each offer. Raises InventoryUnavailable or AnswerLost."""
    try:
        looked_at_ms, found = signing.loads(signed, salt=_SALT, max_age=LOOK_SECONDS)
    except signing.BadSignature:
        looked_at_ms, found = now_ms(), {}
    lines = [_repair(offer, partial(_agree, offer.pk, looked_at_ms, found)) for offer in _offers(sale)]
    sale_events.by_staff(by, "reconcile", sale.slug, detail="; ".join(lines))
    return lines


def _repair(offer: Offer, agree: Any) -> str:
    try:
        return f"{offer.product}: {reconciliation.repair(offer.pk, orders.place, wait=agree)}"
    except (UnderWay, TooSoon) as reason:
        return f"{offer.product}: {reason}"


def _agree(offer_id: int, looked_at_ms: int, found: dict[str, Any], _seconds: float) -> None:
    """In the place of a pause: the dry run has seen the same, long enough ago. Raises TooSoon."""
    left = AUDITS_APART_SECONDS - (now_ms() - looked_at_ms) / 1000
    if left > 0:
        raise TooSoon(_("this adds units to what is on sale: press again in %d s") % (int(left) + 1))
    if found.get(str(offer_id)) != _counters(reconciliation.audit(offer_id)):
        raise TooSoon(_("the dry run saw something else: look again"))


def _counters(audit: reconciliation.Audit) -> list[list[int]]:
    return [list(astuple(each)) for each in (audit.counted, audit.should_be)]


def _offers(sale: Sale) -> Any:
    return sale.offers.select_related("product", "sale")
