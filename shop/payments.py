"""Money: paying an order, acting on what the provider says, and giving back what bought nothing.

pending -> succeeded     it bought the units of its order
        -> late          it came after the hold had ended, and asks for other units (late_money.py)
        -> refund_due -> refunded
        -> failed        the buyer may try again with another payment
"""

import json
import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, transaction
from django.db.models.functions import Now

from shop import orders, provider
from shop.dead_tasks import in_turn
from shop.models import Order, Payment, ProviderEvent
from shop.provider import NotAuthentic, ProviderRefused

#: Refunds, or looks at the provider's books, of one run of a task, each of which waits for the provider.
ASKED_AT_ONCE = 20
#: Minor units of a payment, as our column keeps them.
AMOUNT_MAXIMUM = 2**63 - 1
#: A payment that has been pending so long may have lost its callback.
PULL_AFTER = timedelta(seconds=20)
#: So long we ask for it; the provider has given up calling back by then.
PULL_UNTIL = timedelta(hours=2)

logger = logging.getLogger(__name__)


class CallbackRefused(Exception):
    """A callback that is not the provider's, or makes no sense. The message says why."""


def start(order: Order) -> str:
    """The address of the hosted page where this order is paid. Pressing Pay again leads to the same page.

    Raises ProviderUnavailable; the order stays payable.
    """
    earlier = list(order.payments.all())  # one look: a press beside this one counts the same attempts
    for payment in earlier:
        if payment.state == Payment.State.PENDING:
            return payment.pay_url

    name, pay_url = provider.charge(
        {
            "reference": order.number,
            "amount_minor": order.total_minor,
            "currency": order.currency,
            "callback_url": f"{settings.SHOP_URL}/payments/callback",
            "return_url": f"{settings.SHOP_URL}/orders/{order.number}/",
            "expires_at_ms": int(order.pay_until.timestamp() * 1000),
            "idempotency_key": f"{order.number}-{len(earlier)}",
        }
    )
    facts = {"pay_url": pay_url, "amount_minor": order.total_minor, "currency": order.currency}
    payment, _ = Payment.objects.get_or_create(charge=name, defaults={"order": order, **facts})
    return payment.pay_url


def handle_callback(raw: bytes, signature: str) -> None:
    """Act on a callback of the provider, once, whatever order and however often callbacks arrive.

    Raises CallbackRefused when it is not authentic or makes no sense: then nothing was changed.
    """
    try:
        provider.check(raw, signature)
        _act_once(_parsed(raw))
    except NotAuthentic as error:
        raise CallbackRefused(str(error)) from error
    except (DataError, IntegrityError) as error:  # JSON can say what PostgreSQL cannot keep: NUL, NaN, half a letter
        raise CallbackRefused(f"the event cannot be kept: {error}") from error


def _parsed(raw: bytes) -> dict[str, Any]:
    """The event, with the fields that we rely on. Unknown types pass: a provider may add some."""
    try:
        event = json.loads(raw)
        strings = [event[name] for name in ("event_id", "type", "charge", "reference", "currency")]
        amount = event["amount_minor"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CallbackRefused(f"the body is not an event: {error!r}") from error
    if not all(provider.is_name(value) for value in strings):
        raise CallbackRefused("a field is not a short string")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= AMOUNT_MAXIMUM:
        raise CallbackRefused("amount_minor is not a whole number from 1")
    return dict(event)


def _act_once(event: dict[str, Any]) -> None:
    with transaction.atomic():
        seen, new = ProviderEvent.objects.get_or_create(
            event_id=event["event_id"], defaults={"kind": event["type"], "payload": event}
        )
        if new:
            seen.note = _act(event)
            seen.save(update_fields=["note"])


def _act(event: dict[str, Any]) -> str:
    """Move the payment and its order; answers what was odd about it, if anything. Runs inside a transaction."""
    payment = _payment_of(event)
    if payment is None:
        return "no such order"
    match event["type"]:
        case "charge.succeeded":
            return _succeeded(payment, event)
        case "charge.failed":
            Payment.objects.filter(pk=payment.pk, state=Payment.State.PENDING).update(state=Payment.State.FAILED)
        case "refund.succeeded":
            _refunded(payment, event.get("refund"))
        case _:
            return "unknown type"
    return ""


def _payment_of(event: dict[str, Any]) -> Payment | None:
    """The payment of a charge, locked; made now when we crashed between the charge and its row."""
    order = Order.objects.filter(number=event["reference"]).first()
    if order is None:
        return None
    payment, _ = Payment.objects.select_for_update().get_or_create(
        charge=event["charge"],
        defaults={
            "order": order,
            "amount_minor": order.total_minor,
            "currency": order.currency,
            "pay_url": f"{settings.PROVIDER_URL}/pay/{event['charge']}",
        },
    )
    return payment


def _succeeded(payment: Payment, event: dict[str, Any]) -> str:
    """Money has come. It buys the units if they are still held; too late, it may buy others; else it goes back."""
    if payment.state not in (Payment.State.PENDING, Payment.State.FAILED):
        return "this payment has succeeded before"
    right = (event["amount_minor"], event["currency"]) == (payment.amount_minor, payment.currency)
    payment.state, note = _what_it_buys(payment.order) if right else (Payment.State.REFUND_DUE, "wrong amount")
    payment.succeeded_at = Now()
    payment.amount_minor, payment.currency = event["amount_minor"], event["currency"]  # what came is what goes back
    payment.save(update_fields=["state", "succeeded_at", "amount_minor", "currency"])
    if payment.state == Payment.State.REFUND_DUE:
        orders.owe_refund(payment.order)
    return note


def _what_it_buys(order: Order) -> tuple[Payment.State, str]:
    if orders.pay(order):
        return Payment.State.SUCCEEDED, ""
    order.refresh_from_db(fields=["state"])
    if order.state == Order.State.PAID and not order.payments.filter(state=Payment.State.SUCCEEDED).exists():
        return Payment.State.SUCCEEDED, "PostgreSQL had forgotten this payment of a paid order"
    if order.state == Order.State.EXPIRED:
        return Payment.State.LATE, "too late: asks for other units"
    return Payment.State.REFUND_DUE, f"the order was {order.state}: refund due"


def _refunded(payment: Payment, name: Any) -> None:
    payment.state = Payment.State.REFUNDED
    payment.refund = name if isinstance(name, str) else payment.refund
    payment.save(update_fields=["state", "refund"])
    orders.refunded(payment.order)


def pull() -> int:
    """Ask the provider about payments whose callback should have come; answers how many had news.

    Raises ProviderUnavailable.
    """
    silent = Payment.objects.filter(
        state=Payment.State.PENDING, created_at__lt=Now() - PULL_AFTER, created_at__gt=Now() - PULL_UNTIL
    )
    return in_turn(silent.select_related("order").order_by("?")[:ASKED_AT_ONCE], _pull)


def _pull(payment: Payment) -> bool:
    facts = provider.state_of(payment.charge)
    if facts.get("state") not in ("succeeded", "failed"):
        return False
    event = {name: facts.get(name) for name in ("amount_minor", "currency")}
    event |= {"charge": payment.charge, "reference": payment.order.number}
    _act_once({**event, "event_id": f"pull-{payment.charge}", "type": f"charge.{facts['state']}"})
    return True


def refund_due() -> int:
    """Give back the money of payments that bought nothing; answers how many. Repeated until the provider has said yes.

    The row stays locked while the provider is asked, so that no two workers ask for the same refund; the idempotency
    key makes a repeat after a crash harmless.
    """
    due = Payment.objects.filter(state=Payment.State.REFUND_DUE).values_list("pk", flat=True)
    return in_turn(due.order_by("?")[:ASKED_AT_ONCE], _refund)  # by chance: those that are refused are not always first


def _refund(pk: int) -> bool:
    with transaction.atomic():
        waiting = Payment.objects.select_for_update(skip_locked=True).filter(pk=pk, state=Payment.State.REFUND_DUE)
        payment = waiting.first()
        if payment is None:
            return False
        try:
            _refunded(payment, provider.refund(payment.charge, payment.amount_minor))
        except ProviderRefused as refused:  # one that is odd must not keep the others from their money
            logger.error("the refund of %s was refused, a person has to look: %s", payment.charge, refused)
            return False
    return True
