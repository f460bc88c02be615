"""The back office. Staff write products and drafts; what moves stock or money goes through the verbs of the domain."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.cache import caches
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from inventory.admin import ReadOnly, Record, link
from inventory.models import DeadEntry
from shop import acts, opening, orders, preheating, sale_events
from shop.admin_confirmation import unless_confirmed
from shop.admin_dead_events import DeadEventAdmin
from shop.admin_dead_tasks import DeadTaskAdmin
from shop.admin_flagged_buyers import FlaggedBuyerAdmin
from shop.admin_forms import OfferForm, OfferFormSet, ProductForm, ProductPicker, SaleForm
from shop.admin_overrides import OverrideAdmin
from shop.admin_sale_events import SaleEventAdmin
from shop.models import (
    DeadTask,
    FlaggedBuyer,
    Offer,
    Order,
    Override,
    Payment,
    Product,
    ProviderEvent,
    Sale,
    SaleEvent,
)
from shop.templatetags.money import money

#: Offers of one sale: they are put on the shelf in one transaction, which Redis may hold up 0.25 s for each.
OFFERS_MAXIMUM = 20
#: Rows that one action takes: each is a transaction of its own, and the browser waits for all of them.
ROWS_MAXIMUM = 100

admin.site.site_header = admin.site.site_title = "Seckill"
admin.site.index_title = _("Back office")
admin.site.index_template = "admin/shop/index.html"
admin.site.register(DeadEntry, DeadEventAdmin)
admin.site.register(Override, OverrideAdmin)
admin.site.register(FlaggedBuyer, FlaggedBuyerAdmin)
admin.site.register(SaleEvent, SaleEventAdmin)
admin.site.register(DeadTask, DeadTaskAdmin)


def few_enough(request: HttpRequest, rows: QuerySet[Any]) -> list[Any]:
    """The selected rows; none of them, and a message, when there are more than one request should take."""
    chosen = list(rows[: ROWS_MAXIMUM + 1])
    if len(chosen) > ROWS_MAXIMUM:
        text = _("Nothing was done: an action takes at most %(most)d rows.")
        messages.error(request, text % {"most": ROWS_MAXIMUM})
        return []
    return chosen


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    form = ProductForm
    list_display = ["title", "list_price", "picture"]
    list_filter = ["currency"]
    search_fields = ["title"]
    fields = ["title", "description", "picture", "list_price_minor", "currency"]

    @admin.display(description=_("list price"), ordering="list_price_minor")
    def list_price(self, product: Product) -> str:
        return money(product.list_price_minor, product.currency)

    def get_fieldsets(self, request: HttpRequest, product: Any = None) -> Any:
        note = _("Published sales offer it, so its currency stays.") if _is_published(product) else None
        return [(None, {"fields": self.fields, "description": note})]

    def get_readonly_fields(self, request: HttpRequest, product: Any = None) -> list[str]:
        """An order takes its currency from the product, a moment after its buyer has clicked."""
        return ["currency"] if _is_published(product) else []


def _is_published(product: Product | None) -> bool:
    return bool(product and product.offers.exclude(sale__state=Sale.State.DRAFT).exists())


class UnitsOfOffer:
    """Columns of an offer, the counters as PostgreSQL has them."""

    @admin.display(description=_("sale price"), ordering="price_minor")
    def price(self, offer: Offer) -> str:
        return money(offer.price_minor, offer.product.currency)

    @admin.display(description=_("quantity"), ordering="stock__quantity")
    def quantity(self, offer: Offer) -> int:
        return offer.stock.quantity

    @admin.display(description=_("available"))
    def available(self, offer: Offer) -> int:
        return offer.stock.available

    @admin.display(description=_("held"), ordering="stock__held")
    def held(self, offer: Offer) -> int:
        return offer.stock.held

    @admin.display(description=_("sold"), ordering="stock__sold")
    def sold(self, offer: Offer) -> int:
        return offer.stock.sold

    @admin.display(description=_("units a buyer may have"))
    def unit_limit(self, offer: Offer) -> int:
        return offer.stock.unit_limit

    @admin.display(description=_("seconds to pay"))
    def hold_seconds(self, offer: Offer) -> int:
        return offer.stock.hold_seconds

    @admin.display(description=_("stock"))
    def its_stock(self, offer: Offer) -> SafeString:
        return link("inventory_stock", offer.pk, offer.pk)

    @admin.display(description=_("orders"))
    def its_orders(self, offer: Offer) -> SafeString:
        url = reverse("admin:shop_order_changelist", query={"offer__exact": offer.pk})
        return format_html('<a href="{}">{}</a>', url, _("orders"))


class OffersOfDraft(admin.TabularInline):
    model = Offer
    form = OfferForm
    formset = OfferFormSet
    fields = ["product", "price_minor", "quantity", "unit_limit", "hold_seconds"]
    exclude = ["stock"]
    extra = 1
    max_num = OFFERS_MAXIMUM

    def get_queryset(self, request: HttpRequest) -> QuerySet[Offer]:
        return super().get_queryset(request).select_related("product", "sale", "stock")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "product":
            kwargs["widget"] = ProductPicker(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class PublishedOffers(UnitsOfOffer, ReadOnly, admin.TabularInline):
    model = Offer
    fields = readonly_fields = (
        *("product", "price", "quantity", "available", "held", "sold", "unit_limit", "hold_seconds"),
        *("its_stock", "its_orders"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Offer]:
        return super().get_queryset(request).select_related("product", "sale", "stock")


@admin.register(Sale)
class SaleAdmin(admin.ModelAdmin):
    """A draft is edited; a published sale is led by the actions of the list."""

    form = SaleForm
    list_display = ["title", "its_console", "phase", "quantity", "available", "held", "sold", "opens_at", "closes_at"]
    list_filter = ["state", "opens_at"]
    search_fields = ["title", "slug"]
    date_hierarchy = "opens_at"
    actions = ["schedule", "preheat", "open_now", "pause", "resume", "close"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sale]:
        units = {name: Coalesce(Sum(f"offers__stock__{name}"), 0) for name in ("quantity", "held", "sold")}
        return Sale.objects.annotate(**{f"units_{name}": total for name, total in units.items()})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Sale | None:
        """The sale; locked while it is changed, so that nobody schedules a draft that is being edited."""
        sale: Sale | None = super().get_object(request, object_id, from_field)
        if sale and request.method == "POST" and transaction.get_connection().in_atomic_block:
            sale.refresh_from_db(from_queryset=Sale.objects.select_for_update())
        return sale

    # --- The list -----------------------------------------------------------------------------------------------

    @admin.display(description=_("phase"), ordering="state")
    def phase(self, sale: Any) -> Any:
        """What its state comes to now, by our clock and PostgreSQL's counters. The shop's pages ask Redis."""
        if sale.state == Sale.State.DRAFT:
            return sale.get_state_display()
        if sale.state == Sale.State.CLOSED or timezone.now() >= sale.closes_at:
            return Sale.State.CLOSED.label
        if sale.state == Sale.State.PAUSED or timezone.now() < sale.opens_at:
            return sale.get_state_display()
        return _("open") if self.available(sale) else _("sold out")

    @admin.display(description=_("quantity"), ordering="units_quantity")
    def quantity(self, sale: Any) -> int:
        return int(sale.units_quantity)

    @admin.display(description=_("available"))
    def available(self, sale: Any) -> int:
        return int(sale.units_quantity - sale.units_held - sale.units_sold)

    @admin.display(description=_("held"), ordering="units_held")
    def held(self, sale: Any) -> int:
        return int(sale.units_held)

    @admin.display(description=_("sold"), ordering="units_sold")
    def sold(self, sale: Any) -> int:
        return int(sale.units_sold)

    @admin.display(description=_("console"))
    def its_console(self, sale: Any) -> SafeString:
        return format_html('<a href="{}">{}</a>', reverse("console:sale", args=[sale.slug]), _("console"))

    # --- The form -----------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, sale: Any = None) -> Any:
        if _is_draft(sale):
            note = _("A draft is seen by staff alone. Schedule it by the action in the list of sales.")
        else:
            note = _(
                "Published: its title may change; its address, times and offers stay as they were promised. Units and"
                " limits, and whether it sells, are changed in its console."
            )
        its_own = (None, {"fields": ["title", "slug", "state", "opens_at", "closes_at"], "description": note})
        if _is_draft(sale):
            return [its_own]
        return [its_own, (_("Now"), {"fields": ["its_console", "preheated", "cache_reads"]})]

    def get_readonly_fields(self, request: HttpRequest, sale: Any = None) -> list[str]:
        if _is_draft(sale):
            return ["state"]
        return ["slug", "state", "opens_at", "closes_at", "its_console", "preheated", "cache_reads"]

    @admin.display(description=_("preheated"))
    def preheated(self, sale: Sale) -> str:
        """How far it is, when that was, and why it went no further."""
        progress = preheating.Progress.of(sale.slug)
        if progress is None:
            return self.get_empty_value_display()
        at = timezone.localtime(datetime.fromtimestamp(progress.at_ms / 1_000, UTC)).strftime("%Y-%m-%d %H:%M:%S")
        if progress.failure:
            return _("failed at %(at)s after %(step)s: %(reason)s") % {
                "at": at,
                "step": progress.text,
                "reason": progress.failure,
            }
        return (_("done at %(at)s") % {"at": at}) if progress.is_complete else f"{progress.text} ({at})"

    @admin.display(description=_("reads of its caches"))
    def cache_reads(self, sale: Sale) -> str:
        """What the process that shows this page has counted; Prometheus adds up all processes."""
        cache: Any = caches["default"]
        counted = ", ".join(f"{event} {number}" for event, number in cache.tally(f"sale:{sale.slug}").items() if number)
        return counted or self.get_empty_value_display()

    def get_prepopulated_fields(self, request: HttpRequest, sale: Any = None) -> dict[str, Sequence[str]]:
        return {"slug": ["title"]} if _is_draft(sale) else {}

    def get_inlines(self, request: HttpRequest, sale: Any) -> list[Any]:
        may_edit = self.has_change_permission(request, sale) if sale else self.has_add_permission(request)
        may_offer = request.user.has_perms(["shop.add_offer", "shop.change_offer"])
        return [OffersOfDraft if _is_draft(sale) and may_edit and may_offer else PublishedOffers]

    # --- The verbs ----------------------------------------------------------------------------------------------

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("shop.run_sale")

    @admin.action(description=_("Schedule the selected drafts"), permissions=["run"])
    def schedule(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        return self._each(request, sales, opening.schedule)

    @admin.action(description=_("Preheat the selected sales"), permissions=["run"])
    def preheat(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        """A worker does it; how far it is, the page of the sale says."""
        return self._confirmed(request, sales, lambda sale: acts.preheat(sale, request.user))

    @admin.action(description=_("Open the selected sales now"), permissions=["run"])
    def open_now(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        return self._each(request, sales, opening.open_now)

    @admin.action(description=_("Pause the selected sales"), permissions=["run"])
    def pause(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        return self._each(request, sales, opening.pause)

    @admin.action(description=_("Resume the selected sales"), permissions=["run"])
    def resume(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        return self._each(request, sales, opening.resume)

    @admin.action(description=_("Close the selected sales for good"), permissions=["run"])
    def close(self, request: HttpRequest, sales: QuerySet[Sale]) -> TemplateResponse | None:
        return self._each(request, sales, opening.close)

    def _each(
        self, request: HttpRequest, sales: QuerySet[Sale], verb: Callable[[Sale], list[str]]
    ) -> TemplateResponse | None:
        return self._confirmed(request, sales, lambda sale: acts.move(sale, verb, request.user))

    def _confirmed(
        self, request: HttpRequest, sales: QuerySet[Sale], act: Callable[[Sale], acts.Heard]
    ) -> TemplateResponse | None:
        """A page that asks; then do it to every sale, and say of each what came of it: one that refuses does not stop
        the others."""
        chosen = few_enough(request, sales)
        if page := unless_confirmed(self, request, chosen):
            return page
        for sale in chosen:
            heard = acts.attempt(partial(act, sale))
            self.message_user(request, heard.text, heard.level)
            if heard.done:
                self.log_change(request, sale, request.POST["action"])
        return None


def _is_draft(sale: Sale | None) -> bool:
    return sale is None or sale.state == Sale.State.DRAFT


@admin.register(Offer)
class OfferAdmin(UnitsOfOffer, Record):
    """Offers of all sales side by side. They are written in the form of their sale."""

    list_display = ["its_product", "its_sale", "price", "quantity", "available", "held", "sold", "its_orders"]
    list_select_related = ["product", "sale", "stock"]
    list_filter = ["sale__state", "stock__archived"]
    search_fields = ["product__title", "sale__title", "sale__slug"]
    ordering = ["-pk"]
    fields = [
        *("its_product", "its_sale", "price", "quantity", "available", "held", "sold", "unit_limit", "hold_seconds"),
        *("its_stock", "its_orders"),
    ]

    @admin.display(description=_("product"), ordering="product__title")
    def its_product(self, offer: Offer) -> str:
        return offer.product.title

    @admin.display(description=_("sale"), ordering="sale__opens_at")
    def its_sale(self, offer: Offer) -> SafeString:
        return link("shop_sale", offer.sale_id, offer.sale)


class PaymentsOfOrder(ReadOnly, admin.TabularInline):
    model = Payment
    fields = readonly_fields = ("charge", "amount", "state", "created_at", "succeeded_at", "refund")
    show_change_link = True

    @admin.display(description=_("amount"))
    def amount(self, payment: Payment) -> str:
        return money(payment.amount_minor, payment.currency)


@admin.register(Order)
class OrderAdmin(Record):
    list_display = ["number", "its_buyer", "title", "units", "total", "state", "placed_at", "pay_until"]
    list_select_related = ["buyer", "offer__sale"]  # whose cancellation is written down
    list_filter = ["state", "placed_at"]  # not the currency: which ones there are would take a look at every row
    search_fields = ["=number", "buyer__username", "=payments__charge", "=reservation__id"]
    search_help_text = _("The number of an order, a buyer's name, a charge, or the id of a reservation.")
    ordering = ["-pk"]
    fields = [
        *("number", "its_buyer", "its_offer", "title", "units", "total", "state", "its_reservation"),
        *("placed_at", "pay_until", "ended_at", "refunded_at"),
    ]
    inlines = [PaymentsOfOrder]
    actions = ["cancel"]

    @admin.display(description=_("buyer"), ordering="buyer__username")
    def its_buyer(self, order: Order) -> SafeString:
        return link("auth_user", order.buyer_id, order.buyer)

    @admin.display(description=_("offer"))
    def its_offer(self, order: Order) -> SafeString:
        return link("shop_offer", order.offer_id, order.offer)

    @admin.display(description=_("total"), ordering="total_minor")
    def total(self, order: Order) -> str:
        return money(order.total_minor, order.currency)

    @admin.display(description=_("reservation"))
    def its_reservation(self, order: Order) -> SafeString:
        return link("inventory_reservation", order.reservation_id, order.reservation_id)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Nobody edits an order, but who might could also cancel it."""
        return request.user.has_perm("shop.change_order")

    @admin.action(description=_("Cancel the selected orders"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, selected: QuerySet[Order]) -> TemplateResponse | None:
        chosen = few_enough(request, selected)
        if page := unless_confirmed(self, request, chosen):
            return page
        cancelled = [order for order in chosen if orders.cancel(order)]
        for order in cancelled:
            self.log_change(request, order, "cancel")
            sale_events.by_staff(request.user, "cancel", order.offer.sale.slug, order.number)
        self._say(request, len(cancelled), len(chosen) - len(cancelled))
        return None

    def _say(self, request: HttpRequest, cancelled: int, others: int) -> None:
        if cancelled:
            text = ngettext("%d order was cancelled.", "%d orders were cancelled.", cancelled) % cancelled
            self.message_user(request, text, messages.SUCCESS)
        if others:
            text = ngettext(
                "%d order was no longer awaiting payment.", "%d orders were no longer awaiting payment.", others
            )
            self.message_user(request, text % others, messages.WARNING)


@admin.register(Payment)
class PaymentAdmin(Record):
    list_display = ["charge", "its_order", "its_buyer", "amount", "state", "created_at", "succeeded_at"]
    list_select_related = ["order__buyer"]
    list_filter = ["state", "created_at"]
    search_fields = ["=charge", "=refund", "=order__number", "order__buyer__username"]
    search_help_text = _("A charge, a refund, the number of an order, or a buyer's name.")
    ordering = ["-pk"]
    fields = [
        *("charge", "its_order", "its_buyer", "amount", "state", "pay_url", "refund", "created_at", "succeeded_at"),
    ]

    @admin.display(description=_("order"), ordering="order")
    def its_order(self, payment: Payment) -> SafeString:
        return link("shop_order", payment.order_id, payment.order)

    @admin.display(description=_("buyer"), ordering="order__buyer__username")
    def its_buyer(self, payment: Payment) -> SafeString:
        return link("auth_user", payment.order.buyer_id, payment.order.buyer)

    @admin.display(description=_("amount"), ordering="amount_minor")
    def amount(self, payment: Payment) -> str:
        return money(payment.amount_minor, payment.currency)


@admin.register(ProviderEvent)
class ProviderEventAdmin(Record):
    list_display = ["event_id", "kind", "note", "received_at"]
    list_filter = ["kind", ("note", admin.EmptyFieldListFilter), "received_at"]
    search_fields = ["=event_id", "payload__charge__exact", "payload__reference__exact"]
    search_help_text = _("The id of an event, its charge, or the number of its order.")
    ordering = ["-pk"]
    fields = ["event_id", "kind", "note", "payload", "received_at"]
