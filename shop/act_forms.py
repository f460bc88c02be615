"""What staff type into the console: every number has a least and a most, and the form says what it had seen."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from shop import acts
from shop.admin_forms import UNIT_LIMIT_MAXIMUM
from shop.models import Offer, Sale


class Confirmation(forms.Form):
    """To press the button is all there is to say."""

    def __init__(self, sale: Sale, offer: Offer | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sale, self.offer = sale, offer


class Restock(Confirmation):
    units = forms.IntegerField(
        label=_("units to add"),
        min_value=1,
        max_value=acts.RESTOCK_MAXIMUM,
        help_text=_("From 1 to 1 000 000. They are added to what there is."),
    )
    #: The last line of the stock's ledger when the form was drawn: two forms that saw the same are one restock.
    seen = forms.CharField(required=False, max_length=36, widget=forms.HiddenInput)

    def __init__(self, sale: Sale, offer: Offer, *args: Any, **kwargs: Any) -> None:
        super().__init__(sale, offer, *args, **kwargs)
        self.initial["seen"] = acts.last_change(offer)


class ChangeLimit(Confirmation):
    unit_limit = forms.IntegerField(
        label=_("units a buyer may have"),
        min_value=1,
        max_value=UNIT_LIMIT_MAXIMUM,
        help_text=_("Who has more already keeps them."),
    )
    was = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, sale: Sale, offer: Offer, *args: Any, **kwargs: Any) -> None:
        super().__init__(sale, offer, *args, **kwargs)
        self.initial["was"] = self.initial["unit_limit"] = offer.stock.unit_limit


class Reconcile(Confirmation):
    """Drawn after a dry run, which travels with it as the first of two looks."""

    looked = forms.CharField(required=False, widget=forms.HiddenInput)
