"""What staff may type: every number has a least and a most, so that a slip is an error in a form and not in a sale."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.staticfiles import finders
from django.core.exceptions import SuspiciousFileOperation, ValidationError
from django.forms.formsets import DELETION_FIELD_NAME
from django.forms.models import BaseInlineFormSet
from django.utils.translation import gettext_lazy as _

from inventory import stock
from inventory.models import Stock
from inventory.outcomes import InventoryUnavailable
from shop import opening
from shop.models import Offer, Product, Sale

#: Minor units: ten billion of a currency with cents. Times UNIT_LIMIT_MAXIMUM it fits an order's 64 bits.
PRICE_MAXIMUM = 10**12
#: Units of one offer: far more than a flash sale has, far less than the column's 31 bits.
QUANTITY_MAXIMUM = 10_000_000
#: Units a buyer may have of one offer: more is trade, not a flash sale.
UNIT_LIMIT_MAXIMUM = 1_000
#: Seconds to pay: a unit that is held for longer than a day is not for sale.
HOLD_SECONDS_MAXIMUM = 86_400


#: What a form sends of a sale that may change in a draft alone.
_OF_A_DRAFT = re.compile(
    r"(slug|opens_at_\d|closes_at_\d|offers-\d+-(product|price_minor|quantity|unit_limit|hold_seconds))\Z"
)


class ProductForm(forms.ModelForm):
    # The pages show a picture for every product, and a file that is not there would be an error on each of them.
    picture = forms.CharField(label=_("picture"), max_length=120, help_text=_("A path below static/."))
    list_price_minor = forms.IntegerField(
        label=_("list price"), min_value=1, max_value=PRICE_MAXIMUM, help_text=_("In minor units, like cents.")
    )

    class Meta:
        model = Product
        fields = ["title", "description", "picture", "list_price_minor", "currency"]

    def clean_picture(self) -> str:
        picture: str = self.cleaned_data["picture"]
        try:
            found = finders.find(picture)
        except SuspiciousFileOperation:
            found = None
        if not found or not Path(found).is_file():
            raise ValidationError(_("There is no such file below static/."))
        return picture


class SaleForm(forms.ModelForm):
    class Meta:
        model = Sale
        fields = ["title", "slug", "opens_at", "closes_at"]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.instance.state != Sale.State.DRAFT and any(map(_OF_A_DRAFT.match, self.data)):
            raise ValidationError(
                _(
                    "Nothing was saved. This form was opened while the sale was a draft, and it is published now: its"
                    " address, times and offers stay as they were promised. Open it again: its title may change here,"
                    " units and limits in its console."
                )
            )
        opens_at, closes_at = (self.cleaned_data.get(name) for name in ("opens_at", "closes_at"))
        if opens_at and closes_at and closes_at <= opens_at:
            self.add_error("closes_at", _("A sale closes after it opens."))
        return cleaned


class ProductPicker(AutocompleteSelect):
    """Searches while staff type."""

    def optgroups(self, name: str, value: Sequence[str], attrs: Any = None) -> Any:
        """Without what cannot be an id: Django's own would answer 500 when it shows the form with its error again."""
        return super().optgroups(name, [pk for pk in value if pk.isdecimal()], attrs)


class OfferForm(forms.ModelForm):
    """An offer of a draft and its stock, as one row."""

    price_minor = forms.IntegerField(label=_("sale price"), min_value=1, max_value=PRICE_MAXIMUM)
    quantity = forms.IntegerField(label=_("quantity"), min_value=1, max_value=QUANTITY_MAXIMUM)
    unit_limit = forms.IntegerField(
        label=_("units a buyer may have"), min_value=1, max_value=UNIT_LIMIT_MAXIMUM, initial=1
    )
    hold_seconds = forms.IntegerField(
        label=_("seconds to pay"), min_value=1, max_value=HOLD_SECONDS_MAXIMUM, initial=900
    )

    class Meta:
        model = Offer
        fields = ["product", "price_minor"]

    _TERMS_OF_STOCK = ("quantity", "unit_limit", "hold_seconds")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["product"].disabled = True  # two offers that swap products would meet in the unique constraint
            for name in self._TERMS_OF_STOCK:
                self.initial[name] = getattr(self.instance.stock, name)

    def clean_quantity(self) -> int:
        quantity: int = self.cleaned_data["quantity"]
        if not self.instance._state.adding and quantity != self.instance.stock.quantity:
            refuse_what_lies_in_redis([self.instance.pk])
        return quantity

    def save(self, commit: bool = True) -> Offer:
        """Always writes: an offer cannot exist before its stock."""
        terms = {name: self.cleaned_data[name] for name in self._TERMS_OF_STOCK}
        if self.instance._state.adding:
            product, price_minor = self.cleaned_data["product"], self.cleaned_data["price_minor"]
            self.instance = opening.add_offer(self.instance.sale, product, price_minor=price_minor, **terms)
        else:
            Stock.objects.filter(pk=self.instance.pk).update(**terms)
            self.instance.save(update_fields=["price_minor"])
        offer: Offer = self.instance
        return offer


class OfferFormSet(BaseInlineFormSet):
    def clean(self) -> None:
        super().clean()
        removed = [form.instance.pk for form in self.initial_forms if form.cleaned_data.get(DELETION_FIELD_NAME)]
        refuse_what_lies_in_redis(removed)

    def delete_existing(self, offer: Any, commit: bool = True) -> None:
        """An offer goes with its stock, of which nothing was ever sold."""
        stock_id = offer.pk
        super().delete_existing(offer, commit)
        Stock.objects.filter(pk=stock_id).delete()


def refuse_what_lies_in_redis(offer_ids: Collection[int]) -> None:
    """A draft may have stock in Redis, when Redis went away while it was scheduled: that quantity is fixed already.

    Raises ValidationError, also when Redis cannot be asked.
    """
    try:
        shelved = [offer_id for offer_id, levels in stock.levels(list(offer_ids)).items() if levels]
    except InventoryUnavailable as away:
        raise ValidationError(_("Stock Redis cannot be asked whether this may change. Try again.")) from away
    if shelved:
        raise ValidationError(
            _("Scheduling was interrupted after this stock was put into Redis. Schedule the sale again, then close it.")
        )
