"""Money, through the payment provider: charges, its signed callbacks, refunds.

A request or callback is authentic by the header `X-Signature: t=<seconds>,v1=<hex HMAC-SHA256 of "<t>." + raw body>`.
"""

import hmac
import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, transaction
from django.db.models.functions import Now

from resilience.clock import now_ms
from shop import orders
from shop.models import Order, Payment, ProviderEvent

#: Seconds that a signature stays good: clocks differ, and an old callback may not be played back for ever.
SIGNATURE_SECONDS = 300
#: Refunds one run of the task makes, each of which waits for the provider.
REFUNDS_AT_ONCE = 20
#: Characters of a provider's names and of its pages' addresses, as our columns keep them.
NAME_MAXIMUM = 64
PAY_URL_MAXIMUM = 300
#: Minor units of a payment, as our column keeps them.
AMOUNT_MAXIMUM = 2**63 - 1

_SIGNATURE = re.compile(r"\At=(\d{1,12}),v1=([0-9a-f]{64})\Z")
#: The provider is addressed directly, whatever proxies this machine's environment names.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

logger = logging.getLogger(__name__)


class ProviderUnavailable(Exception):
    """The provider did not answer, or not in time, or with an error: nothing is known to have happened."""


class ProviderRefused(ProviderUnavailable):
    """The provider works and said no to this very request."""


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

    charge = _ask(
        "POST",
        "/charges",
        {
            "reference": order.number,
            "amount_minor": order.total_minor,
            "currency": order.currency,
            "callback_url": f"{settings.SHOP_URL}/payments/callback",
            "return_url": f"{settings.SHOP_URL}/orders/{order.number}/",
            "expires_at_ms": int(order.pay_until.timestamp() * 1000),
            "idempotency_key": f"{order.number}-{len(earlier)}",
        },
    )
    name, pay_url = charge.get("id"), charge.get("pay_url")
    if not (_is_name(name) and _is_page(pay_url)):
        raise ProviderUnavailable(f"the provider answered no charge: {charge!r:.200}")
    payment, _ = Payment.objects.get_or_create(
        charge=name,
        defaults={
            "order": order,
            "pay_url": pay_url,
            "amount_minor": order.total_minor,
            "currency": order.currency,
        },
    )
    return payment.pay_url


def _ask(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    raw = json.dumps(body).encode()
    request = urllib.request.Request(
        settings.PROVIDER_URL + path,
        data=raw,
        method=method,
        headers={"Content-Type": "application/json", "X-Signature": sign(raw)},
    )
    try:
        with _open(request, timeout=settings.PROVIDER_TIMEOUT_SECONDS) as answer:
            values = json.load(answer)
    except urllib.error.HTTPError as error:
        says_no = 400 <= error.code < 500
        raise (ProviderRefused if says_no else ProviderUnavailable)(f"{path}: {error}") from error
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise ProviderUnavailable(f"{path}: {error!r}") from error
    if not isinstance(values, dict):
        raise ProviderUnavailable(f"{path}: the answer is no object")
    return values


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_MAXIMUM and value.isprintable()


def _is_page(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and len(value) <= PAY_URL_MAXIMUM


def sign(raw: bytes) -> str:
    """The value of X-Signature for a body that is sent now."""
    seconds = str(int(time.time()))
    return f"t={seconds},v1={_mac(seconds, raw)}"


def _mac(seconds: str, raw: bytes) -> str:
    return hmac.digest(settings.PROVIDER_SECRET.encode(), seconds.encode() + b"." + raw, "sha256").hex()


def handle_callback(raw: bytes, signature: str) -> None:
    """Act on a callback of the provider, once, whatever order and however often callbacks arrive.

    Raises CallbackRefused when it is not authentic or makes no sense: then nothing was changed.
    """
    _check(raw, signature)
    event = _parsed(raw)
    try:
        _act_once(event)
    except (DataError, IntegrityError) as error:  # JSON can say what PostgreSQL cannot keep: NUL, NaN, half a letter
        raise CallbackRefused(f"the event cannot be kept: {error}") from error


def _act_once(event: dict[str, Any]) -> None:
    with transaction.atomic():
        seen, new = ProviderEvent.objects.get_or_create(
            event_id=event["event_id"], defaults={"kind": event["type"], "payload": event}
        )
        if new:
            seen.note = _act(event)
            seen.save(update_fields=["note"])


def _check(raw: bytes, signature: str) -> None:
    match = _SIGNATURE.match(signature)
    if not match:
        raise CallbackRefused("X-Signature is missing or malformed")
    seconds, mac = match.groups()
    if not hmac.compare_digest(mac, _mac(seconds, raw)):
        raise CallbackRefused("X-Signature does not fit the body")
    if abs(now_ms() - int(seconds) * 1000) > SIGNATURE_SECONDS * 1000:
        raise CallbackRefused("X-Signature is too old")


def _parsed(raw: bytes) -> dict[str, Any]:
    """The event, with the fields that we rely on. Unknown types pass: a provider may add some."""
    try:
        event = json.loads(raw)
        strings = [event[name] for name in ("event_id", "type", "charge", "reference", "currency")]
        amount = event["amount_minor"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CallbackRefused(f"the body is not an event: {error!r}") from error
    if not all(_is_name(value) for value in strings):
        raise CallbackRefused("a field is not a short string")
    if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= AMOUNT_MAXIMUM:
        raise CallbackRefused("amount_minor is not a whole number from 1")
    return dict(event)


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
    """Money has come. It buys the units if they are still held; else it goes back."""
    if payment.state not in (Payment.State.PENDING, Payment.State.FAILED):
        return "this payment has succeeded before"
    payment.succeeded_at = Now()
    right = (event["amount_minor"], event["currency"]) == (payment.amount_minor, payment.currency)
    bought = right and orders.pay(payment.order)
    payment.state = Payment.State.SUCCEEDED if bought else Payment.State.REFUND_DUE
    payment.amount_minor, payment.currency = event["amount_minor"], event["currency"]  # what came is what goes back
    payment.save(update_fields=["state", "succeeded_at", "amount_minor", "currency"])
    if bought:
        return ""
    orders.owe_refund(payment.order)
    return "too late: refund due" if right else "wrong amount or currency: refund due"


def _refunded(payment: Payment, refund: Any) -> None:
    payment.state = Payment.State.REFUNDED
    payment.refund = refund if isinstance(refund, str) else payment.refund
    payment.save(update_fields=["state", "refund"])
    orders.refunded(payment.order)


def refund_due() -> int:
    """Give back the money of payments that bought nothing; answers how many. Repeated until the provider has said yes.

    The row stays locked while the provider is asked, so that no two workers ask for the same refund; the idempotency
    key makes a repeat after a crash harmless.
    """
    due = Payment.objects.filter(state=Payment.State.REFUND_DUE).values_list("pk", flat=True)[:REFUNDS_AT_ONCE]
    return sum(_refund(pk) for pk in due)


def _refund(pk: int) -> bool:
    with transaction.atomic():
        waiting = Payment.objects.select_for_update(skip_locked=True).filter(pk=pk, state=Payment.State.REFUND_DUE)
        payment = waiting.first()
        if payment is None:
            return False
        body = {"charge": payment.charge, "amount_minor": payment.amount_minor}
        try:
            refund = _ask("POST", "/refunds", {**body, "idempotency_key": f"refund-{payment.charge}"})
        except ProviderRefused as refused:  # one that is odd must not keep the others from their money
            logger.error("the refund of %s was refused, a person has to look: %s", payment.charge, refused)
            return False
        _refunded(payment, refund.get("id"))
    return True
