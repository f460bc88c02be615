"""The back office for overrides: force a level or a breaker, or have somebody's log lines told in full, for a while."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from inventory.admin import Record
from resilience.degradation import Level
from shop import overrides
from shop.models import Override

#: How long an override lasts unless staff say otherwise: long enough to look what is wrong.
USUAL = timedelta(minutes=15)

VALUES = [
    (_("level of the service"), [(level.name, level.name) for level in Level]),
    (
        _("breaker of a dependency"),
        [(overrides.OPEN, _("open: refuse every call")), (overrides.BYPASS, _("bypass: let every call through"))],
    ),
    (_("full detail in the log"), [(overrides.DETAIL, _("detail"))]),
]


class OverrideForm(forms.ModelForm):
    value = forms.ChoiceField(label=_("value"), choices=VALUES)

    class Meta:
        model = Override
        fields = ["kind", "name", "value", "reason", "ends_at"]
        help_texts = {
            "name": _(
                "Of a breaker its dependency; of a log buyer:17, sale:summer or request:4f1c; of a level nothing."
            ),
            "ends_at": _("It ends by itself, within 24 hours."),
        }

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        said = [cleaned.get(name, "") for name in ("kind", "name", "value")]
        try:
            overrides.check(*said, reason=cleaned.get("reason", ""), ends_at=cleaned.get("ends_at"))
        except ValidationError as wrong:
            for name, reasons in wrong.message_dict.items():
                if name not in self.errors:  # else it has been told that it is missing, or no date at all
                    self.add_error(name, reasons)
        return cleaned


class OverrideAdmin(Record):
    """Nobody edits one: another is put in its place, or it ends."""

    form: Any = OverrideForm
    list_display = ["what", "in_force", "reason", "author", "created_at", "ends_at", "ended_at"]
    list_filter = ["kind", ("ended_at", admin.EmptyFieldListFilter)]
    ordering = ["-pk"]
    actions = ["end_now"]

    def get_fieldsets(self, request: HttpRequest, override: Any = None) -> Any:
        note = _("Every process obeys within a second, instead of what was said of the same before.")
        shown = [*OverrideForm.Meta.fields, "author", "created_at", "ended_at"]
        return [(None, {"fields": shown if override else OverrideForm.Meta.fields, "description": note})]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"ends_at": timezone.localtime(timezone.now() + USUAL), **super().get_changeform_initial_data(request)}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("shop.add_override")

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("shop.change_override")

    @admin.display(description=_("override"))
    def what(self, override: Override) -> str:
        return str(override)

    @admin.display(description=_("in force"), boolean=True)
    def in_force(self, override: Override) -> bool:
        return override.ended_at is None and override.ends_at > timezone.now()

    def save_model(self, request: HttpRequest, override: Override, form: Any, change: bool) -> None:
        said = overrides.add(
            *(override.kind, override.name, override.value),
            reason=override.reason,
            author=request.user.get_username(),
            ends_at=override.ends_at,
        )
        override.pk = said.pk
        text = _("%(override)s takes effect within a second, or within %(seconds)d while cache Redis is away.")
        told = {"override": override, "seconds": int(overrides.REREAD_SECONDS) + 1}
        self.message_user(request, text % told, messages.SUCCESS)

    @admin.action(description=_("End the selected overrides now"), permissions=["end"])
    def end_now(self, request: HttpRequest, selected: QuerySet[Override]) -> None:
        for override in selected.filter(ended_at=None):
            if overrides.end(override.pk, author=request.user.get_username()):
                self.log_change(request, override, "end")
                self.message_user(request, _("%s has ended.") % override, messages.SUCCESS)
            else:
                self.message_user(request, _("%s had ended by itself.") % override, messages.WARNING)
