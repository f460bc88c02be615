"""The back office for the record of what was done: to read, by sale, act, person and time."""

from django.utils.translation import gettext_lazy as _

from inventory.admin import Record


class SaleEventAdmin(Record):
    list_display = ["at", "act", "sale", "what", "detail", "by"]
    list_filter = ["at"]
    search_fields = ["=sale", "=act", "by", "what"]
    search_help_text = _("The address of a sale, an act like pause or level, a person, or what was acted on.")
    ordering = ["-pk"]
    fields = ["at", "act", "sale", "what", "detail", "by"]
