"""The back office for events that made no sense: have them recorded after all, or give their units back."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from inventory import dead_letters
from inventory.admin import DeadEntryAdmin
from inventory.models import DeadEntry
from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import orders, sale_events

#: Events that one action takes: each is a transaction of its own, and the browser waits for all of them.
EVENTS_MAXIMUM = 100


class DeadEventAdmin(DeadEntryAdmin):
    actions = ["replay", "void"]

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inventory.change_deadentry")

    @admin.action(description=_("Record the selected events after all"), permissions=["resolve"])
    def replay(self, request: HttpRequest, selected: QuerySet[DeadEntry]) -> None:
        self._each(request, selected, lambda entry: dead_letters.replay(entry, orders.place))

    @admin.action(description=_("Refuse the selected events and give their units back"), permissions=["resolve"])
    def void(self, request: HttpRequest, selected: QuerySet[DeadEntry]) -> None:
        self._each(request, selected, dead_letters.void)

    def _each(self, request: HttpRequest, selected: QuerySet[DeadEntry], resolve: Callable[[DeadEntry], None]) -> None:
        for entry in selected.filter(resolution="").select_related("stock__offer__sale")[:EVENTS_MAXIMUM]:
            try:
                resolve(entry)
            except (dead_letters.NotPossible, InventoryUnavailable, AnswerLost) as reason:
                self.message_user(request, f"{entry.stream_id}: {reason}", messages.ERROR)
            else:
                entry.refresh_from_db()
                self.log_change(request, entry, entry.resolution)
                slug = entry.stock.offer.sale.slug
                sale_events.by_staff(request.user, entry.resolution, slug, f"event {entry.stream_id}")
                self.message_user(request, f"{entry.stream_id}: {entry.resolution}", messages.SUCCESS)
