"""A payment provider that plays an outside company: `python -m shop.local.provider`.

It shares no code with the shop, and talks to it as a real one would: over HTTP, in JSON, with signatures.

    POST /charges        reference amount_minor currency callback_url return_url expires_at_ms idempotency_key
    GET  /charges/<id>   -> id state pay_url ...; state is pending, succeeded, failed or expired
    POST /refunds        charge amount_minor idempotency_key -> id state ...
    GET  /pay/<id>       the page for the shopper; POST action=pay or action=decline leads to return_url
    POST /faults         the new set of faults, see `provider_faults.py`; {} heals everything
    GET  /faults, GET /  may be asked by anybody

Each POST to a callback_url tells one event in JSON, until it is answered 2xx. It may come twice:

    event_id             the same each time
    type                 charge.succeeded, charge.failed or refund.succeeded
    charge, reference    whose event it is
    amount_minor         of the charge, or of the refund
    currency
    refund               the refund's id, or null
    occurred_at_ms

Signature. Requests to the API, and callbacks to the shop, carry the header

    X-Signature: t=<unix seconds>,v1=<hex of HMAC-SHA-256(shared secret, "<t>." + the raw body)>

where a GET signs an empty body. The receiver computes it over the bytes as they came, before parsing them,
compares in constant time, and refuses a `t` more than 300 s away from its own clock.

Environment: PROVIDER_PORT, PROVIDER_SECRET, STATE (folder of the journal), and where the defaults do not fit
PROVIDER_HOST (127.0.0.1), PROVIDER_URL (its address for browsers), PROVIDER_FAULTS (JSON).
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from . import provider_page
from .provider_callbacks import Callbacks
from .provider_faults import Faults
from .provider_http import Answer, Request, Server
from .provider_ledger import FAILED, SUCCEEDED, Charge, Ledger
from .provider_requests import BadValue, ChargeRequest, NotFound, NotSigned, RefundRequest, Unavailable
from .provider_signature import is_authentic

NAME = "Example Pay"

DECISIONS = {"pay": SUCCEEDED, "decline": FAILED}

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

logger = logging.getLogger(__name__)


class Provider:
    """The company: its books, its callbacks, its faults, and what it answers."""

    def __init__(self, ledger: Ledger, secret: bytes, url: str, faults: Faults) -> None:
        self.ledger = ledger
        self.secret = secret
        self.url = url
        self.faults = faults
        self.callbacks = Callbacks(ledger, secret, lambda: self.faults)

    def answer(self, request: Request) -> Answer:
        methods = self._methods(request.path)
        if request.method not in methods:
            allow = ", ".join(methods)
            return Answer.error(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allow} here", Allow=allow)
        return methods[request.method](request)

    def _methods(self, path: str) -> dict[str, Callable[[Request], Answer]]:
        match path.split("/")[1:]:
            case [""]:
                return {"GET": self.about}
            case ["charges"]:
                return {"POST": partial(self._api, self.open_charge)}
            case ["charges", charge_id]:
                return {"GET": partial(self._api, partial(self.show_charge, charge_id))}
            case ["refunds"]:
                return {"POST": partial(self._api, self.refund)}
            case ["pay", charge_id]:
                return {"GET": partial(self.show_page, charge_id), "POST": partial(self.decide, charge_id)}
            case ["faults"]:
                return {"GET": self.show_faults, "POST": self.set_faults}
            case _:
                raise NotFound("no such page")

    def about(self, request: Request) -> Answer:
        return Answer.json(HTTPStatus.OK, {"provider": NAME, "charges": len(self.ledger)})

    def _api(self, handle: Callable[[Request], Answer], request: Request) -> Answer:
        """What the API does for everything it is asked: fail as it was told to, and know the caller."""
        try:
            if self.faults.refuse:
                raise Unavailable("out of service")
            self._authenticate(request)
            return handle(request)
        finally:
            time.sleep(self.faults.slow_ms / 1000)

    def _authenticate(self, request: Request) -> None:
        if not is_authentic(self.secret, request.body, request.signature):
            raise NotSigned("X-Signature is missing, wrong or old")

    def open_charge(self, request: Request) -> Answer:
        charge, is_new = self.ledger.open_charge(ChargeRequest.parse(request.json()))
        return Answer.json(HTTPStatus.CREATED if is_new else HTTPStatus.OK, self._described(charge))

    def show_charge(self, charge_id: str, request: Request) -> Answer:
        return Answer.json(HTTPStatus.OK, self._described(self.ledger.charge(charge_id)))

    def _described(self, charge: Charge) -> dict[str, Any]:
        values = asdict(charge)
        del values["decision"]
        return values | {"state": charge.state, "pay_url": f"{self.url}/pay/{charge.id}"}

    def refund(self, request: Request) -> Answer:
        """Give money back. Its callback must not delay the answer: the shop may have one thread for both."""
        refund, event = self.ledger.refund(RefundRequest.parse(request.json()))
        if event:
            self.callbacks.send_soon(event)
        return Answer.json(HTTPStatus.CREATED if event else HTTPStatus.OK, asdict(refund) | {"state": SUCCEEDED})

    def show_page(self, charge_id: str, request: Request) -> Answer:
        return self._page(HTTPStatus.OK, self.ledger.charge(charge_id))

    def decide(self, charge_id: str, request: Request) -> Answer:
        """Take the shopper's decision, tell the shop, and only then send the shopper back there."""
        charge = self.ledger.charge(charge_id)
        event = self.ledger.decide(charge_id, _decision(request))
        if event is None:
            return self._page(HTTPStatus.CONFLICT, self.ledger.charge(charge_id))

        self.callbacks.send_now(event)
        return Answer(HTTPStatus.SEE_OTHER, headers={"Location": charge.return_url})

    def _page(self, status: int, charge: Charge) -> Answer:
        return Answer(status, provider_page.render(charge), provider_page.HEADERS)

    def show_faults(self, request: Request) -> Answer:
        return Answer.json(HTTPStatus.OK, asdict(self.faults))

    def set_faults(self, request: Request) -> Answer:
        """Replace the faults; the one door that no fault closes."""
        self._authenticate(request)
        self.faults = Faults.parse(request.json())
        return self.show_faults(request)


def _decision(request: Request) -> str:
    action = parse_qs(request.body.decode(errors="replace")).get("action", [""])[0]
    if action not in DECISIONS:
        raise BadValue("action must be pay or decline")
    return DECISIONS[action]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="provider: %(message)s")
    # Blocked before any thread starts, so that every one inherits it and the signals wait for `sigwait`.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    host, port = os.environ.get("PROVIDER_HOST", "127.0.0.1"), int(_required("PROVIDER_PORT"))
    provider = Provider(
        ledger=Ledger(Path(_required("STATE")) / "provider.jsonl"),
        secret=_required("PROVIDER_SECRET").encode(),
        url=os.environ.get("PROVIDER_URL", f"http://{host}:{port}").rstrip("/"),
        faults=_faults(os.environ.get("PROVIDER_FAULTS") or "{}"),
    )
    server = Server((host, port), provider.answer)
    provider.callbacks.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    logger.info("%s at %s, %d charges in its books", NAME, provider.url, len(provider.ledger))

    signal.sigwait(STOP_SIGNALS)
    server.shutdown()
    server.server_close()


def _required(name: str) -> str:
    return os.environ.get(name) or sys.exit(f"provider: set {name}")


def _faults(text: str) -> Faults:
    try:
        return Faults.parse(json.loads(text))
    except (ValueError, BadValue) as error:
        sys.exit(f"provider: PROVIDER_FAULTS: {error}")


if __name__ == "__main__":
    main()
