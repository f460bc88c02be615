"""The back office for events that made no sense: have them recorded after all, or give their units back."""

import uuid
from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from inventory import dead_letters
from inventory.admin import DeadEntryAdmin
from inventory.models import DeadEntry
from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import orders, sale_events
from shop.admin_confirmation import unless_confirmed

#: Events that one action takes: each is a transaction of its own, and the browser waits for all of them.
EVENTS_MAXIMUM = 100

#: Names of lines of the record are made in this space: an arbitrary one.
_RESOLVED = uuid.UUID("0c2f3c1e-3b7a-4a8e-8f0e-9b8e5f7f1c55")


class DeadEventAdmin(DeadEntryAdmin):
    actions = ["replay", "void"]

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("inventory.change_deadentry")

    @admin.action(description=_("Record the selected events after all"), permissions=["resolve"])
    def replay(self, request: HttpRequest, selected: QuerySet[DeadEntry]) -> TemplateResponse | None:
        return self._each(request, selected, lambda entry: dead_letters.replay(entry, orders.place))

    @admin.action(description=_("Refuse the selected events and give their units back"), permissions=["resolve"])
    def void(self, request: HttpRequest, selected: QuerySet[DeadEntry]) -> TemplateResponse | None:
        return self._each(request, selected, dead_letters.void)

    def _each(
        self, request: HttpRequest, selected: QuerySet[DeadEntry], resolve: Callable[[DeadEntry], None]
    ) -> TemplateResponse | None:
        unresolved = selected.filter(resolution="").select_related("stock__offer__sale")[:EVENTS_MAXIMUM]
        if page := unless_confirmed(self, request, entries := list(unresolved)):
            return page
        for entry in entries:
            try:
                resolve(entry)
            except (dead_letters.NotPossible, InventoryUnavailable, AnswerLost) as reason:
                self.message_user(request, f"{entry.stream_id}: {reason}", messages.ERROR)
            else:
                self._write_down(request, entry)
        return None

    def _write_down(self, request: HttpRequest, entry: DeadEntry) -> None:
        """Once, also of two who press at the same moment: both read how it was resolved."""
        entry.refresh_from_db(fields=["resolution"])
        slug, name = entry.stock.offer.sale.slug, f"event {entry.stream_id}"
        if sale_events.by_staff(request.user, entry.resolution, slug, name, key=uuid.uuid5(_RESOLVED, str(entry.pk))):
            self.log_change(request, entry, entry.resolution)
        self.message_user(request, f"{entry.stream_id}: {entry.resolution}", messages.SUCCESS)
