"""The back office for tasks that were given up: read what went wrong, and say that somebody has looked."""

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from inventory.admin import Record
from shop import audit
from shop.models import DeadTask


class DeadTaskAdmin(Record):
    list_display = ["name", "arguments", "error", "times", "first_failed_at", "last_failed_at", "looked_at"]
    list_filter = [("looked_at", admin.EmptyFieldListFilter), "name"]
    search_fields = ["name", "error"]
    ordering = ["-last_failed_at"]
    fields = ["name", "arguments", "error", "times", "first_failed_at", "last_failed_at", "looked_at"]
    actions = ["look"]

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("shop.change_deadtask")

    @admin.action(description=_("Somebody has looked at the selected tasks"), permissions=["resolve"])
    def look(self, request: HttpRequest, selected: QuerySet[DeadTask]) -> None:
        """When one fails again, it stands among those that nobody has looked at."""
        for row in selected:
            audit.by_staff(request.user, "look", row)
        selected.update(looked_at=Now())
