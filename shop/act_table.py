"""The buttons of the console: what each says before it is pressed, who may press it, and what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from shop import act_forms, acts, opening, second_look
from shop.act_forms import Confirmation
from shop.acts import Heard
from shop.models import Sale

#: Does it with what the form says, for whoever presses.
Do = Callable[[Confirmation, object], Heard]

_State = Sale.State
RUNNING = frozenset({_State.SCHEDULED, _State.PAUSED})
PUBLISHED = RUNNING | {_State.CLOSED}


@dataclass(frozen=True, slots=True)
class Act:
    label: str | Promise
    #: What happens, to be read before the button is pressed.
    says: str | Promise
    do: Do
    permission: str = "shop.run_sale"
    #: States of a sale in which the console shows the button. The verbs judge for themselves.
    states: frozenset[str] = RUNNING
    form: type[Confirmation] = Confirmation
    of_offer: bool = False
    before_t0: bool = False

    def is_shown(self, sale: Sale) -> bool:
        return sale.state in self.states and (timezone.now() < sale.opens_at or not self.before_t0)


def _move(verb: Callable[[Sale], list[str]]) -> Do:
    return lambda form, by: acts.move(form.sale, verb, by)


def _restock(form: Confirmation, by: object) -> Heard:
    said: dict[str, Any] = form.cleaned_data
    return acts.restock(_offer(form), said["units"], seen=said["seen"], by=by)


def _limit(form: Confirmation, by: object) -> Heard:
    said: dict[str, Any] = form.cleaned_data
    return acts.change_limit(_offer(form), said["unit_limit"], was=said["was"], by=by)


def _offer(form: Confirmation) -> Any:
    return form.offer


def _reconcile(form: Confirmation, by: object) -> Heard:
    return Heard("; ".join(second_look.repair(form.sale, form.cleaned_data["looked"], by)))


ACTS: dict[str, Act] = {
    "schedule": Act(
        _("Schedule"),
        _("Everybody sees the sale from now on, and it opens by itself. Its address, times and offers stay."),
        _move(opening.schedule),
        states=frozenset({_State.DRAFT}),
    ),
    "preheat": Act(
        _("Preheat"),
        _("A worker fills the caches and tells Redis what it should know. By itself it does so just before T0."),
        lambda form, by: acts.preheat(form.sale, by),
    ),
    "open": Act(
        _("Open now"),
        _("The sale opens this moment instead of at its time. Pages that wait hear of it with their next poll."),
        _move(opening.open_now),
        states=frozenset({_State.SCHEDULED}),
        before_t0=True,
    ),
    "pause": Act(
        _("Pause"),
        _("Nobody can reserve until it is resumed. Holds, orders and payments go on."),
        _move(opening.pause),
        states=frozenset({_State.SCHEDULED}),
    ),
    "resume": Act(_("Resume"), _("It sells again at once."), _move(opening.resume), states=frozenset({_State.PAUSED})),
    "close": Act(
        _("Close for good"),
        _("It never sells again. Holds can still be paid until they run out."),
        _move(opening.close),
    ),
    "restock": Act(
        _("Restock"),
        _("Units are added to what there is, in PostgreSQL first. It is never a new total."),
        _restock,
        permission="shop.restock_sale",
        form=act_forms.Restock,
        of_offer=True,
    ),
    "limit": Act(
        _("Change the limit"),
        _("It holds for clicks from now on."),
        _limit,
        permission="shop.restock_sale",
        form=act_forms.ChangeLimit,
        of_offer=True,
    ),
    "release": Act(
        _("Release expired holds"),
        _("Ends the holds of all sales that have run out. Workers do so each second: press it when they are down."),
        lambda form, by: acts.release_expired(form.sale, by),
        states=PUBLISHED,
    ),
    "reconcile": Act(
        _("Reconcile"),
        _(
            "What was lost between Redis and PostgreSQL is sent again, and counters are corrected. Units are added to"
            " what is on sale only when this dry run and another look, half a minute later, agree."
        ),
        _reconcile,
        permission="shop.reconcile_sale",
        states=PUBLISHED,
        form=act_forms.Reconcile,
    ),
    "export": Act(
        _("Export orders"),
        _("A CSV file with the number, state, buyer and price of each order. That you took it is written down."),
        lambda _form, _by: Heard(""),  # the answer is the file
        permission="shop.export_order",
        states=PUBLISHED,
    ),
}
