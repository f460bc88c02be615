"""The back office for buyers whose log lines are told in full: who helps one flags them, for a while, with a reason."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from shop import overrides
from shop.admin_overrides import OverrideAdmin
from shop.models import FlaggedBuyer, Order, Override


class FlagForm(forms.ModelForm):
    buyer = forms.ModelChoiceField(
        User.objects.all(),
        label=capfirst(_("buyer")),
        widget=AutocompleteSelect(Order._meta.get_field("buyer"), admin.site),
    )

    class Meta:
        model = FlaggedBuyer
        fields = ["reason", "ends_at"]
        help_texts = {"ends_at": _("It ends by itself, within 24 hours.")}

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if buyer := cleaned.get("buyer"):
            said = self.instance
            said.kind, said.name, said.value = Override.Kind.LOG, f"buyer:{buyer.pk}", overrides.DETAIL
            self._check(said)
        return cleaned

    def _check(self, said: Override) -> None:
        reason, ends_at = self.cleaned_data.get("reason", ""), self.cleaned_data.get("ends_at")
        try:
            overrides.check(said.kind, said.name, said.value, reason=reason, ends_at=ends_at)
        except ValidationError as wrong:
            for name, reasons in wrong.message_dict.items():
                if name in self.fields and name not in self.errors:
                    self.add_error(name, reasons)


class FlaggedBuyerAdmin(OverrideAdmin):
    """The same rows as the overrides, and the same rules; those of buyers alone."""

    form: Any = FlagForm
    list_display = ["name", "in_force", "reason", "author", "created_at", "ends_at", "ended_at"]
    list_filter = [("ended_at", admin.EmptyFieldListFilter)]
    search_fields = ["=name", "reason", "author"]
    search_help_text = _("buyer: and an id, like buyer:17; a reason, or who flagged them.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Override]:
        return super().get_queryset(request).filter(kind=Override.Kind.LOG, name__startswith="buyer:")

    def get_fieldsets(self, request: HttpRequest, override: Any = None) -> Any:
        note = _("Every process tells all lines of this buyer within a second.")
        shown = ["name", "reason", "author", "created_at", "ends_at", "ended_at"]
        return [(None, {"fields": shown if override else ["buyer", "reason", "ends_at"], "description": note})]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("shop.add_flaggedbuyer")

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("shop.change_flaggedbuyer")
