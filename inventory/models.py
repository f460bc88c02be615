"""PostgreSQL's side of the truth: how many units there are, who holds them, and what Redis has yet to hear.

The constraints are the last defence: what a race or a bug gets past the Lua scripts is refused here.

Each index is paid for by every row that the drain writes, so there is none that no query reads. A foreign key whose
column leads another index has none of its own (`db_index=False`), and migration 0004 drops Django's for LIKE.
"""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Stock(models.Model):
    """The units of one offer. Its primary key is the offer's id, and the hash tag of its keys in Redis."""

    quantity = models.PositiveIntegerField(_("quantity"))
    held = models.PositiveIntegerField(_("held"), default=0)
    sold = models.PositiveIntegerField(_("sold"), default=0)
    unit_limit = models.PositiveIntegerField(_("units a buyer may have"), default=1)
    #: The highest limit there ever was: holds that a lower one came too late for are not refused.
    highest_limit = models.PositiveIntegerField(default=0)
    hold_seconds = models.PositiveIntegerField(_("seconds to pay"), default=900)
    #: Grows each time Redis is filled anew from here: what an older filling left behind is recognised and ignored.
    epoch = models.PositiveIntegerField(default=1)
    archived = models.BooleanField(default=False)

    # What Redis was last told, so that a Redis that lost it can be told again: empty until the first time.
    shelf_state = models.CharField(max_length=6, blank=True)
    opens_at_ms = models.BigIntegerField(default=0)
    closes_at_ms = models.BigIntegerField(default=0)
    #: The last event that was written down: a Redis whose stream ends before it has gone back in time.
    high_water_ms = models.BigIntegerField(default=0)
    high_water_seq = models.BigIntegerField(default=0)
    #: Set while Redis has lost data and receipts are taken; nothing is sold meanwhile.
    recovering_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("stock")
        verbose_name_plural = _("stock")
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=F("held") + F("sold")), name="never_oversold"),
            models.CheckConstraint(condition=Q(unit_limit__gte=1), name="limit_is_a_unit_or_more"),
            models.CheckConstraint(condition=Q(hold_seconds__gte=1), name="hold_is_a_second_or_more"),
            models.CheckConstraint(
                condition=Q(shelf_state__in=["", "open", "paused", "closed"]), name="shelf_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"offer {self.pk}: {self.available} of {self.quantity} available"

    @property
    def available(self) -> int:
        return self.quantity - self.held - self.sold


class Reservation(models.Model):
    """A temporary hold. Its id is the offer's id and the nonce of the ticket that asked for it."""

    class State(models.TextChoices):
        HELD = "held", _("held")
        CONFIRMED = "confirmed", _("confirmed")
        RELEASED = "released", _("released")
        EXPIRED = "expired", _("expired")
        REFUSED = "refused", _("refused")

    id = models.CharField(primary_key=True, max_length=48)
    stock = models.ForeignKey(Stock, models.PROTECT, related_name="reservations")
    buyer_id = models.BigIntegerField()
    units = models.PositiveIntegerField()
    reason = models.CharField(max_length=8, blank=True, help_text=_("late: for money that came after its hold ended"))
    state = models.CharField(max_length=10, choices=State, default=State.HELD)
    reserved_at = models.DateTimeField(help_text=_("by the clock of Redis"))
    placed_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        constraints = [
            models.CheckConstraint(condition=Q(units__gte=1), name="a_reservation_holds_units"),
            models.CheckConstraint(
                condition=Q(state__in=["held", "confirmed", "released", "expired", "refused"]),
                name="reservation_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(state="held", ended_at=None) | (~Q(state="held") & Q(ended_at__isnull=False)),
                name="only_a_held_reservation_has_no_end",
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], condition=Q(state="held"), name="deadlines")]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"


class BuyerUnits(models.Model):
    """Units a buyer holds and owns of an offer: the second arbiter of the limit, whatever became of Redis."""

    stock = models.ForeignKey(Stock, models.CASCADE, related_name="buyers", db_index=False)
    buyer_id = models.BigIntegerField()
    units = models.PositiveIntegerField()
    unit_limit = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("units of a buyer")
        verbose_name_plural = _("units of buyers")
        constraints = [
            models.UniqueConstraint(fields=["stock", "buyer_id"], name="one_row_a_buyer"),
            models.CheckConstraint(condition=Q(units__lte=F("unit_limit")), name="no_buyer_over_the_limit"),
        ]

    def __str__(self) -> str:
        return f"buyer {self.buyer_id}: {self.units} of {self.unit_limit}"


class StockChange(models.Model):
    """One line of the ledger: units that came or went otherwise than by selling. The quantity is their sum.

    Up, PostgreSQL counts first; down, Redis gives up first what is still free there, which may be less than asked.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("under way")
        DONE = "done", _("done")

    id = models.UUIDField(primary_key=True)
    stock = models.ForeignKey(Stock, models.PROTECT, related_name="changes")
    asked = models.IntegerField(_("units asked for"))
    moved = models.IntegerField(_("units moved"), null=True)
    reason = models.CharField(_("reason"), max_length=200)
    by = models.CharField(_("by"), max_length=150)
    state = models.CharField(max_length=7, choices=State, default=State.PENDING)
    epoch = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = _("stock change")
        verbose_name_plural = _("stock changes")
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=~Q(asked=0), name="a_change_changes_something"),
            models.CheckConstraint(
                condition=Q(state="pending", moved=None) | Q(state="done", moved__isnull=False),
                name="a_done_change_says_what_moved",
            ),
        ]
        indexes = [models.Index(fields=["stock"], condition=Q(state="pending"), name="changes_under_way")]

    def __str__(self) -> str:
        return f"{self.asked:+d} ({self.reason})"


class Claim(models.Model):
    """A receipt that was shown for a hold which neither store knows: proof that Redis lost it."""

    reservation_id = models.CharField(primary_key=True, max_length=48)
    stock = models.ForeignKey(Stock, models.CASCADE, related_name="claims")
    buyer_id = models.BigIntegerField()
    units = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    reserved_at_ms = models.BigIntegerField()
    settled_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("claim")
        verbose_name_plural = _("claims")
        indexes = [models.Index(fields=["stock"], condition=Q(settled_at=None), name="claims_to_settle")]

    def __str__(self) -> str:
        return self.reservation_id


class Effect(models.Model):
    """PostgreSQL's message to Redis: this reservation has ended, settle its units. Written with the end itself."""

    class Kind(models.TextChoices):
        CONFIRM = "paid", _("units are sold")
        RELEASE = "released", _("cancelled: units come back")
        EXPIRE = "expired", _("ran out: units come back")
        REFUSE = "refused", _("could not be recorded: units come back")

    #: No foreign key for what is refused: it never became a reservation.
    reservation_id = models.CharField(max_length=48)
    stock = models.ForeignKey(Stock, models.CASCADE, related_name="effects")
    kind = models.CharField(max_length=10, choices=Kind)
    epoch = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=Now())
    applied_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("effect")
        verbose_name_plural = _("effects")
        constraints = [
            models.UniqueConstraint(fields=["reservation_id"], name="a_reservation_ends_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["paid", "released", "expired", "refused"]), name="effect_kind_is_known"
            ),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(applied_at=None), name="effects_to_apply")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reservation_id}"


class DeadEntry(models.Model):
    """An event of the stream that makes no sense, kept with its payload for a person to look at."""

    stock = models.ForeignKey(Stock, models.CASCADE, related_name="dead_entries", db_index=False)
    stream_id = models.CharField(max_length=40)
    payload = models.JSONField()
    error = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    resolution = models.CharField(max_length=8, blank=True, help_text=_("replayed or voided, by a person"))

    class Meta:
        verbose_name = _("dead event")
        verbose_name_plural = _("dead events")
        constraints = [models.UniqueConstraint(fields=["stock", "stream_id"], name="an_event_dies_once")]

    def __str__(self) -> str:
        return f"{self.stream_id}: {self.error}"
