"""The record of units, to look at. Nobody edits it by hand: Redis would not hear of it."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from inventory.models import BuyerUnits, Claim, Effect, Reservation, Stock, StockChange

#: Rows of a table beyond which its list says about how many there are, as PostgreSQL's statistics have it.
COUNTED_MAXIMUM = 100_000


class ReadOnly:
    """For a ModelAdmin or an inline: who may view it may look, and nobody adds, changes or deletes."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Estimated(Paginator):
    """Of a whole table that is long, says about how many rows there are: to count them takes longer than to show a
    page. What is filtered or short is counted."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if not rows.query.where:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [rows.model._meta.db_table]
                )
                about = int(cursor.fetchone()[0])
            if about >= COUNTED_MAXIMUM:
                return about
        return int(rows.count())


class Record(ReadOnly, admin.ModelAdmin):
    """A table that only grows: it is never counted whole for the sake of a filter, nor when it is long."""

    paginator = Estimated
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    #: Whether there is time to search; whoever knows hands that in.
    may_search: Callable[[], bool] = staticmethod(lambda: True)

    def get_search_fields(self, request: HttpRequest) -> list[str] | tuple[str, ...]:
        return super().get_search_fields(request) if self.may_search() else ()


def link(table: str, pk: Any, text: Any) -> SafeString:
    """A link to the admin's page of a row, `table` being `app_model`. Costs no query."""
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{table}_change", args=[quote(pk)]), text)


class OfStock:
    """A column that leads to the stock of a row."""

    @admin.display(description=_("offer"), ordering="stock_id")
    def offer(self, row: Any) -> SafeString:
        return link("inventory_stock", row.stock_id, row.stock_id)


@admin.register(Stock)
class StockAdmin(Record):
    list_display = [
        "id",
        "quantity",
        "available",
        "held",
        "sold",
        "unit_limit",
        "epoch",
        "recovering_until",
        "archived",
    ]
    list_filter = ["archived", ("recovering_until", admin.EmptyFieldListFilter)]
    search_fields = ["=id"]
    ordering = ["-id"]
    fields = ["quantity", "available", "held", "sold", "unit_limit", "hold_seconds", "epoch", "archived"]

    @admin.display(description=_("available"))
    def available(self, stock: Stock) -> int:
        return stock.available


@admin.register(Reservation)
class ReservationAdmin(OfStock, Record):
    list_display = ["id", "offer", "buyer_id", "units", "state", "reserved_at", "placed_at", "expires_at", "ended_at"]
    list_filter = ["state", "placed_at"]
    search_fields = ["=id", "=buyer_id"]
    search_help_text = _("The id of a reservation or of a buyer.")
    ordering = ["-placed_at"]
    fields = ["id", "offer", "buyer_id", "units", "state", "reserved_at", "placed_at", "expires_at", "ended_at"]


@admin.register(Effect)
class EffectAdmin(OfStock, Record):
    list_display = ["id", "kind", "reservation", "offer", "epoch", "created_at", "applied_at"]
    list_filter = ["kind", ("applied_at", admin.EmptyFieldListFilter), "created_at"]
    search_fields = ["=reservation_id"]
    search_help_text = _("The id of a reservation.")
    ordering = ["-id"]
    fields = ["kind", "reservation", "offer", "epoch", "created_at", "applied_at"]

    @admin.display(description=_("reservation"), ordering="reservation_id")
    def reservation(self, effect: Effect) -> str:
        """What was refused never became a reservation, so it leads nowhere."""
        if effect.kind == Effect.Kind.REFUSE:
            return effect.reservation_id
        return link("inventory_reservation", effect.reservation_id, effect.reservation_id)


@admin.register(BuyerUnits)
class BuyerUnitsAdmin(OfStock, Record):
    list_display = ["buyer_id", "offer", "units", "unit_limit"]
    search_fields = ["=buyer_id", "=stock__id"]
    search_help_text = _("The id of a buyer or of an offer.")
    ordering = ["-id"]
    fields = ["buyer_id", "offer", "units", "unit_limit"]


@admin.register(StockChange)
class StockChangeAdmin(OfStock, Record):
    list_display = ["created_at", "offer", "asked", "moved", "reason", "by", "state"]
    list_filter = ["state", "created_at"]
    search_fields = ["=stock__id", "reason", "by"]
    fields = ["id", "offer", "asked", "moved", "reason", "by", "state", "epoch", "created_at"]


@admin.register(Claim)
class ClaimAdmin(OfStock, Record):
    list_display = ["reservation_id", "offer", "buyer_id", "units", "epoch", "settled_at"]
    list_filter = [("settled_at", admin.EmptyFieldListFilter)]
    search_fields = ["=reservation_id", "=buyer_id"]
    ordering = ["reservation_id"]
    fields = ["reservation_id", "offer", "buyer_id", "units", "epoch", "reserved_at_ms", "settled_at"]


class DeadEntryAdmin(OfStock, Record):
    """Registered by the shop, which knows how an order is placed for an event that is recorded after all."""

    list_display = ["stream_id", "offer", "error", "created_at", "resolution"]
    list_filter = ["resolution", "created_at"]
    search_fields = ["=stream_id", "error"]
    ordering = ["-id"]
    fields = ["stream_id", "offer", "error", "payload", "created_at", "resolution"]
