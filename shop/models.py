"""What is for sale, who bought it, and what was paid. Money is whole minor units and a currency."""

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from inventory.models import Reservation, Stock

#: Letters and digits that nobody confuses when reading them aloud (Crockford's base 32).
_READABLE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: 60 random bits: nobody guesses another's order, and a million orders meet a clash once in a million shops.
_ORDER_NUMBER_LENGTH = 12

currency_code = RegexValidator(r"\A[A-Z]{3}\Z", _("Three capital letters, like CNY."))


def new_order_number() -> str:
    return _spelled(secrets.token_bytes(_ORDER_NUMBER_LENGTH))


def order_number_of(reservation_id: str) -> str:
    """Follows from the reservation, whose id nobody guesses: an order that PostgreSQL lost and writes down again has
    the number that its buyer and the payment provider know."""
    return _spelled(hashlib.blake2b(reservation_id.encode(), digest_size=_ORDER_NUMBER_LENGTH).digest())


def _spelled(random: bytes) -> str:
    """Of each byte, five bits choose one of the 32 letters."""
    return "".join(_READABLE[byte % 32] for byte in random)


class Product(models.Model):
    title = models.CharField(_("title"), max_length=120)
    description = models.TextField(_("description"), blank=True)
    picture = models.CharField(_("picture"), max_length=120, blank=True, help_text=_("A path below static/."))
    list_price_minor = models.PositiveBigIntegerField(_("list price"), help_text=_("In minor units, like cents."))
    currency = models.CharField(_("currency"), max_length=3, default="CNY", validators=[currency_code])

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["title"]
        constraints = [models.CheckConstraint(condition=Q(list_price_minor__gte=1), name="a_product_costs_something")]

    def __str__(self) -> str:
        return self.title


class Sale(models.Model):
    """A time-boxed event. Whether it is open or sold out follows from Redis's clock and counters."""

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        SCHEDULED = "scheduled", _("scheduled")
        PAUSED = "paused", _("paused")
        CLOSED = "closed", _("closed")

    slug = models.SlugField(_("address"), unique=True, max_length=60)
    title = models.CharField(_("title"), max_length=120)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.DRAFT)
    opens_at = models.DateTimeField(_("opens at"))
    closes_at = models.DateTimeField(_("closes at"))

    class Meta:
        verbose_name = _("sale")
        verbose_name_plural = _("sales")
        ordering = ["-opens_at"]
        constraints = [
            models.CheckConstraint(condition=Q(closes_at__gt=F("opens_at")), name="a_sale_closes_after_it_opens"),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "scheduled", "paused", "closed"]), name="sale_state_is_known"
            ),
        ]
        permissions = [
            ("run_sale", _("Can schedule, open, pause, resume and close sales")),
            ("restock_sale", _("Can add units to a running sale and change its limit")),
            ("reconcile_sale", _("Can repair what differs between Redis and PostgreSQL")),
        ]

    def __str__(self) -> str:
        return self.title


class Offer(models.Model):
    """A product at a sale price. Its stock is inventory's, and its id is the stock's id."""

    stock = models.OneToOneField(Stock, models.PROTECT, primary_key=True, related_name="offer")
    sale = models.ForeignKey(
        Sale, models.PROTECT, related_name="offers", verbose_name=_("sale"), db_index=False
    )  # leads the index of the constraint below
    product = models.ForeignKey(Product, models.PROTECT, related_name="offers", verbose_name=_("product"))
    price_minor = models.PositiveBigIntegerField(_("sale price"), help_text=_("In minor units, like cents."))

    class Meta:
        verbose_name = _("offer")
        verbose_name_plural = _("offers")
        ordering = ["stock"]
        constraints = [
            models.UniqueConstraint(fields=["sale", "product"], name="a_product_is_offered_once_in_a_sale"),
            models.CheckConstraint(condition=Q(price_minor__gte=1), name="an_offer_costs_something"),
        ]

    def __str__(self) -> str:
        return f"{self.product} ({self.sale})"


class Order(models.Model):
    """The durable purchase: it exists from the moment PostgreSQL has committed the reservation."""

    class State(models.TextChoices):
        AWAITING_PAYMENT = "awaiting_payment", _("awaiting payment")
        PAID = "paid", _("paid")
        CANCELLED = "cancelled", _("cancelled")
        EXPIRED = "expired", _("expired")
        REFUND_DUE = "refund_due", _("refund due")
        REFUNDED = "refunded", _("refunded")

    number = models.CharField(_("number"), max_length=16, unique=True, default=new_order_number)
    #: The current one; those that ran out before late money bought others are kept.
    reservation = models.OneToOneField(Reservation, models.PROTECT, related_name="order")
    earlier = models.ManyToManyField(Reservation, related_name="earlier_orders", blank=True)
    late_reservation = models.CharField(max_length=48, null=True)
    buyer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="orders", verbose_name=_("buyer"), db_index=False
    )  # leads the index below
    offer = models.ForeignKey(Offer, models.PROTECT, related_name="orders", verbose_name=_("offer"))
    title = models.CharField(_("title"), max_length=120, help_text=_("As it was when it was bought."))
    units = models.PositiveIntegerField(_("units"))
    total_minor = models.PositiveBigIntegerField(_("total"))
    currency = models.CharField(_("currency"), max_length=3)
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.AWAITING_PAYMENT)
    placed_at = models.DateTimeField(_("placed at"), db_default=Now())
    pay_until = models.DateTimeField(_("pay until"))
    ended_at = models.DateTimeField(_("paid, cancelled or expired at"), null=True)
    refunded_at = models.DateTimeField(_("refunded at"), null=True)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-placed_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(units__gte=1, total_minor__gte=1), name="an_order_has_units_and_a_total"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["awaiting_payment", "paid", "cancelled", "expired", "refund_due", "refunded"]),
                name="order_state_is_known",
            ),
            models.UniqueConstraint(
                fields=["late_reservation"],
                condition=Q(late_reservation__isnull=False),  # hardly any order is in this index
                name="a_late_reservation_has_one_order",
            ),
        ]
        indexes = [models.Index(fields=["buyer", "-placed_at"], name="orders_of_a_buyer")]
        permissions = [("export_order", _("Can export the orders of a sale, with their buyers' names"))]

    def __str__(self) -> str:
        return self.number


class Payment(models.Model):
    """Money that moves, or should, between a buyer and us through the provider."""

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        SUCCEEDED = "succeeded", _("succeeded")
        LATE = "late", _("late: asks for other units")
        FAILED = "failed", _("failed")
        REFUND_DUE = "refund_due", _("refund due")
        REFUNDED = "refunded", _("refunded")

    order = models.ForeignKey(Order, models.PROTECT, related_name="payments", verbose_name=_("order"))
    charge = models.CharField(_("provider's charge"), max_length=64, unique=True)
    pay_url = models.URLField(_("hosted page"), max_length=300)
    amount_minor = models.PositiveBigIntegerField(_("amount"))
    currency = models.CharField(_("currency"), max_length=3)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    refund = models.CharField(_("provider's refund"), max_length=64, null=True, unique=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    succeeded_at = models.DateTimeField(_("succeeded at"), null=True)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gte=1), name="a_payment_moves_money"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "succeeded", "late", "failed", "refund_due", "refunded"]),
                name="payment_state_is_known",
            ),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(state="refund_due"), name="refunds_to_make")]

    def __str__(self) -> str:
        return f"{self.charge} ({self.state})"


class ProviderEvent(models.Model):
    """A callback of the provider that has been acted on: the same one again changes nothing."""

    event_id = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=32)
    payload = models.JSONField()
    received_at = models.DateTimeField(db_default=Now())
    note = models.CharField(max_length=200, blank=True, help_text=_("What was odd about it, if anything."))

    class Meta:
        verbose_name = _("provider event")
        verbose_name_plural = _("provider events")
        ordering = ["-received_at"]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"


class Override(models.Model):
    """What staff say over the head of the automatic, until its end. `overrides` is the way to write one."""

    class Kind(models.TextChoices):
        LEVEL = "level", _("level of the service")
        BREAKER = "breaker", _("breaker of a dependency")
        LOG = "log", _("full detail in the log")

    #: An emergency that lasts longer has become a setting.
    LONGEST = timedelta(hours=24)

    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.LEVEL)
    name = models.CharField(_("name"), max_length=100, blank=True)
    value = models.CharField(_("value"), max_length=20)
    reason = models.CharField(_("reason"), max_length=200)
    author = models.CharField(_("author"), max_length=150)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    ends_at = models.DateTimeField(_("ends at"))
    ended_at = models.DateTimeField(_("ended early at"), null=True)

    class Meta:
        verbose_name = _("override")
        verbose_name_plural = _("overrides")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["level", "breaker", "log"]), name="override_kind_is_known"),
            models.CheckConstraint(condition=~Q(reason=""), name="an_override_has_a_reason"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("created_at"), ends_at__lte=F("created_at") + timedelta(hours=24, minutes=1)),
                name="an_override_ends_within_a_day",
            ),
            models.UniqueConstraint(
                fields=["kind", "name"],
                condition=Q(ended_at__isnull=True),  # one that ran out is closed by whoever comes next
                name="one_override_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.kind, self.name, self.value]))


class FlaggedBuyer(Override):
    """A buyer whose log lines are told in full: the override that support may write."""

    class Meta:
        proxy = True
        verbose_name = _("flagged buyer")
        verbose_name_plural = _("flagged buyers")


class SaleEvent(models.Model):
    """A line of the record of who did what, and of what the service did by itself. It only grows: a trigger of
    PostgreSQL refuses to change or to delete one. `sale_events` is the way to write one."""

    #: Its address and no foreign key: the record outlives what it is about.
    sale = models.CharField(_("sale"), max_length=60, blank=True)
    act = models.CharField(_("act"), max_length=20)
    what = models.CharField(_("on what"), max_length=100, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    by = models.CharField(_("by"), max_length=150, blank=True, help_text=_("Nobody: the service did it by itself."))
    at = models.DateTimeField(_("at"), db_default=Now())
    #: What is done once however often it is pressed has one line, too.
    key = models.UUIDField(null=True, unique=True, editable=False)

    class Meta:
        verbose_name = _("sale event")
        verbose_name_plural = _("sale events")
        ordering = ["-pk"]
        constraints = [models.CheckConstraint(condition=~Q(act=""), name="an_event_says_what_was_done")]
        indexes = [models.Index(fields=["sale", "-id"], name="events_of_a_sale")]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.act, self.sale, self.what]))


class DeadTask(models.Model):
    """A task that was given up, by its name and arguments: how often, and with which error last."""

    digest = models.CharField(max_length=32, editable=False)
    name = models.CharField(_("task"), max_length=100)
    arguments = models.TextField(_("arguments"))
    error = models.TextField(_("error"))
    times = models.PositiveIntegerField(_("times"), db_default=1)
    first_failed_at = models.DateTimeField(_("failed first"), db_default=Now())
    last_failed_at = models.DateTimeField(_("failed last"), db_default=Now())
    looked_at = models.DateTimeField(_("looked at"), null=True, blank=True)

    class Meta:
        verbose_name = _("dead task")
        verbose_name_plural = _("dead tasks")
        constraints = [models.UniqueConstraint(fields=["digest"], name="a_task_dies_once")]

    def __str__(self) -> str:
        return f"{self.name}{self.arguments}"
