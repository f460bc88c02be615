"""The payment provider, as its API is: charges, refunds, and the signature of everything that passes between us.

A request or callback is authentic by the header `X-Signature: t=<seconds>,v1=<hex HMAC-SHA256 of "<t>." + raw body>`.
"""

import hmac
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings

from resilience import deadline
from resilience.clock import now_ms
from resilience.deadline import DeadlinePassed
from resilience.guard import Guard, Thresholds
from resilience.refused import Refused
from resilience.retry import Budget, Policy, Retrying

#: Seconds that a signature stays good: clocks differ, and an old callback may not be played back for ever.
SIGNATURE_SECONDS = 300
#: Bytes of a callback; the provider's events take 400.
CALLBACK_MAXIMUM = 16_384
#: Characters of a provider's names and of its pages' addresses, as our columns keep them.
NAME_MAXIMUM = 64
PAY_URL_MAXIMUM = 300

_SIGNATURE = re.compile(r"\At=(\d{1,12}),v1=([0-9a-f]{64})\Z")
#: The provider is addressed directly, whatever proxies this machine's environment names.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ProviderUnavailable(Exception):
    """The provider did not answer, or not in time, or with an error: nothing is known to have happened."""


class ProviderRefused(ProviderUnavailable, Refused):
    """The provider works and said no to this very request."""


class NotAuthentic(Exception):
    """Not the provider's, or too old. The message says why."""


def _retrying() -> Retrying:
    name, (attempts, pause_ms, successes_for_one, saved) = "payment provider", settings.RETRY_PROVIDER
    return Retrying(
        name,
        on=ProviderUnavailable,
        policy=Policy(attempts=attempts, pause_seconds=pause_ms / 1000),
        budget=Budget(name, successes_for_one=successes_for_one, retries_maximum=saved),
    )


#: Whatever we ask may be asked twice: a look at its books, or a request with an idempotency key.
asking = _retrying()
#: Of each process: so many buyers wait for a provider that hangs, and the threads of all others are free. A company
#: elsewhere takes its time; one that takes two seconds is no use to a buyer.
guard = Guard("payment provider", at_once=16, thresholds=Thresholds(slow_seconds=2.0), retrying=asking)


def charge(wanted: dict[str, Any]) -> tuple[str, str]:
    """The charge's name and the address of its hosted page; the same idempotency key is the same charge.

    Raises ProviderUnavailable.
    """
    made = _ask("POST", "/charges", wanted)
    name, pay_url = made.get("id"), made.get("pay_url")
    if not (is_name(name) and _is_page(pay_url)):
        raise ProviderUnavailable(f"the provider answered no charge: {made!r:.200}")
    return str(name), str(pay_url)


def state_of(name: str) -> dict[str, Any]:
    """A charge as the provider knows it now, with its `state`. Raises ProviderUnavailable."""
    return _ask("GET", f"/charges/{name}")


def refund(name: str, amount_minor: int) -> Any:
    """Give the money of a charge back, once however often it is asked for; answers the refund's name.

    Raises ProviderUnavailable, and ProviderRefused when asking again is of no use.
    """
    wanted = {"charge": name, "amount_minor": amount_minor, "idempotency_key": f"refund-{name}"}
    return _ask("POST", "/refunds", wanted).get("id")


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """All attempts together take no longer than one may: somebody waits for the page."""
    try:
        with deadline.within(settings.PROVIDER_TIMEOUT_SECONDS):
            return guard.call(lambda: _ask_once(method, path, body))
    except ProviderRefused:
        raise
    except Refused as refusal:
        raise ProviderUnavailable(f"{path}: not asked: {refusal!r}") from refusal


def _ask_once(method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    raw = b"" if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Signature": sign(raw)}
    request = urllib.request.Request(settings.PROVIDER_URL + path, data=raw or None, method=method, headers=headers)
    try:
        with _open(request, timeout=deadline.timeout(settings.PROVIDER_TIMEOUT_SECONDS)) as answer:
            values = json.load(answer)
    except urllib.error.HTTPError as error:
        says_no = 400 <= error.code < 500
        raise (ProviderRefused if says_no else ProviderUnavailable)(f"{path}: {error}") from error
    except (DeadlinePassed, OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise ProviderUnavailable(f"{path}: {error!r}") from error
    if not isinstance(values, dict):
        raise ProviderUnavailable(f"{path}: the answer is no object")
    return values


def is_name(value: Any) -> bool:
    """Whether a value can be the name of something of the provider's."""
    return isinstance(value, str) and 0 < len(value) <= NAME_MAXIMUM and value.isprintable()


def _is_page(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and len(value) <= PAY_URL_MAXIMUM


def sign(raw: bytes) -> str:
    """The value of X-Signature for a body that is sent now."""
    seconds = str(int(time.time()))
    return f"t={seconds},v1={mac(seconds, raw)}"


def mac(seconds: str, raw: bytes) -> str:
    return hmac.digest(settings.PROVIDER_SECRET.encode(), seconds.encode() + b"." + raw, "sha256").hex()


def check(raw: bytes, signature: str) -> None:
    """Raises NotAuthentic unless the provider signed these very bytes a short while ago."""
    match = _SIGNATURE.match(signature)
    if not match:
        raise NotAuthentic("X-Signature is missing or malformed")
    seconds, its_mac = match.groups()
    if not hmac.compare_digest(its_mac, mac(seconds, raw)):
        raise NotAuthentic("X-Signature does not fit the body")
    if abs(now_ms() - int(seconds) * 1000) > SIGNATURE_SECONDS * 1000:
        raise NotAuthentic("X-Signature is too old")
