"""Every page of the shop as data: who asks for it and how, and what its answer holds when nothing is broken.

`{slug}`, `{offer}`, `{title}`, `{unread}` (a sale that no process has looked at), `{order}`, `{placed}`, `{held}` and
`{ticket}` are filled in: each page is visited by a shopper of its own, who has an order that awaits payment, a hold
that is not written down yet, and a ticket.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import URLPattern, URLResolver, get_resolver

from shop import buyers, provider
from shop.buyers import Buyer
from tests.faults.visits import Answer, Request

#: What Accept says: a browser that shows a page, or the script of one.
BROWSER, SCRIPT = "text/html,application/xhtml+xml", "application/json"
JSON_BODY, FORM_BODY = "application/json", "application/x-www-form-urlencoded"
#: Of all who sign in here.
PASSWORD = "a-long-pass-phrase"


@dataclass(frozen=True, slots=True)
class Visitor:
    """The shopper of one page, and what is theirs. `words` fill in addresses, bodies and what is looked for."""

    buyer: Buyer
    session: str
    receipt: str
    words: dict[str, str]


Body = Callable[[Visitor], bytes]


@dataclass(frozen=True)
class Page:
    """`route` is its name in shop/urls.py. It works when its answer has the status and holds the text.

    A `to` says where a redirection leads. `kind` is the type of the body that is sent, `staff` that a session of a
    member of staff asks.
    """

    name: str
    route: str
    path: str
    accept: str = BROWSER
    method: str = "GET"
    status: int = 200
    holds: str = ""
    to: str = ""
    sets: str = ""
    kind: str = ""
    body: Body = lambda _: b""
    staff: bool = False

    @property
    def for_people(self) -> bool:
        return self.accept == BROWSER

    def request(self, visitor: Visitor) -> Request:
        cookies = {"lang": "en", buyers.COOKIE: buyers.cookie_for(visitor.buyer.id, visitor.buyer.device)}
        cookies |= {"sessionid": visitor.session, "csrftoken": visitor.words["token"]} if self.staff else {}
        cookies |= {"csrftoken": visitor.words["token"]} if b"csrfmiddlewaretoken" in self.body(visitor) else {}
        headers = {"Accept": self.accept, "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        headers |= {"X-Receipt": visitor.receipt} if self.route == "reservation" else {}
        headers |= {"X-Signature": provider.sign(self.body(visitor))} if self.route == "payment-callback" else {}
        headers |= {"Content-Type": self.kind} if self.kind else {}
        return Request(self.method, self.path.format(**visitor.words), headers, self.body(visitor))

    def works(self, answer: Answer, visitor: Visitor) -> bool:
        """Whether the answer is that of a shop where nothing is broken."""
        return (
            answer.status == self.status
            and self.holds.format(**visitor.words) in answer.text
            and answer.headers.get("Location", "").startswith(self.to.format(**visitor.words))
            and (not self.sets or any(self.sets in cookie for cookie in answer.headers.get_all("Set-Cookie", [])))
        )


# --- What is sent ----------------------------------------------------------------------------------------------------


def _json(**fields: str) -> Body:
    return lambda visitor: json.dumps({name: value.format(**visitor.words) for name, value in fields.items()}).encode()


def _form(**fields: str) -> Body:
    return lambda visitor: urlencode({name: value.format(**visitor.words) for name, value in fields.items()}).encode()


def _new_account(visitor: Visitor) -> bytes:
    """Another one each time: a name is taken once."""
    name = f"newcomer-{secrets.token_hex(8)}"
    return _form(csrfmiddlewaretoken="{token}", username=name, password1=PASSWORD, password2=PASSWORD)(visitor)


def _event(visitor: Visitor) -> bytes:
    """The whole price of the visitor's order has come."""
    order = visitor.words["order"]
    names = {"event_id": f"ev_{order}", "charge": f"ch_{order}", "reference": order}
    kind = {"type": "charge.succeeded", "currency": visitor.words["currency"]}
    return json.dumps({**names, **kind, "amount_minor": int(visitor.words["amount_minor"])}).encode()


_SIGN_IN = _form(csrfmiddlewaretoken="{token}", username="{username}", password=PASSWORD)


# --- The pages -------------------------------------------------------------------------------------------------------


def _both(
    name: str, route: str, path: str, *, script: dict[str, Any], person: dict[str, Any], **same: Any
) -> list[Page]:
    """A page that a script and a person ask for, each in its own way."""
    return [
        Page(f"{name}, script", route, path, SCRIPT, **same, **script),
        Page(f"{name}, person", route, path, BROWSER, **same, **person),
    ]


PAGES = [
    Page("front page", "sales", "/", holds="/sales/{slug}/"),
    Page("sale", "sale", "/sales/{slug}/", holds="{title}"),
    Page("unread sale", "sale", "/sales/{unread}/", holds='data-state-url="/sales/{unread}/state"'),
    Page("no such sale", "sale", "/sales/nowhere-at-all/", status=404, holds="Not found"),
    Page("state", "state", "/sales/{slug}/state", SCRIPT, holds='"phase": "open"'),
    Page("mine", "mine", "/sales/{slug}/mine", SCRIPT, holds='"reservation": "{held}"'),
    *_both(
        *("ticket", "ticket", "/sales/{slug}/ticket"),
        method="POST",
        script={"kind": JSON_BODY, "body": _json(), "holds": '"ticket": "'},
        person={"kind": FORM_BODY, "body": _form(), "holds": 'name="ticket"'},
    ),
    *_both(
        *("buy", "buy", "/sales/{slug}/buy"),
        method="POST",
        script={"kind": JSON_BODY, "body": _json(ticket="{ticket}"), "status": 202, "holds": "RESERVED"},
        person={"kind": FORM_BODY, "body": _form(ticket="{ticket}"), "status": 303, "to": "/reservations/{clicked}"},
    ),
    *_both(
        *("placed reservation", "reservation", "/reservations/{placed}"),
        script={"holds": '"state": "placed"'},
        person={"status": 303, "to": "/orders/{order}/"},
    ),
    *_both(
        *("held reservation", "reservation", "/reservations/{held}"),
        script={"holds": '"state": "held"'},
        person={"holds": 'data-state="held"'},
    ),
    *_both("orders", "orders", "/orders/", script={"holds": "{order}"}, person={"holds": "{order}"}),
    *_both("order", "order", "/orders/{order}/", script={"holds": "{order}"}, person={"holds": "{order}"}),
    *_both(
        *("pay", "pay", "/orders/{order}/pay"),
        method="POST",
        script={"holds": '"pay_url": "http'},
        person={"status": 303, "to": "http://127.0.0.1:"},
    ),
    *_both(
        *("cancel", "cancel", "/orders/{order}/cancel"),
        method="POST",
        script={"holds": '"state": "cancelled"'},
        person={"status": 303, "to": "/orders/{order}/"},
    ),
    Page(
        *("payment callback", "payment-callback", "/payments/callback", SCRIPT, "POST"),
        holds="RECEIVED",
        kind=JSON_BODY,
        body=_event,
    ),
    Page("sign-in form", "login", "/accounts/login/", holds="csrfmiddlewaretoken"),
    Page("sign-in", "login", "/accounts/login/", BROWSER, "POST", 302, kind=FORM_BODY, body=_SIGN_IN, sets="buyer="),
    Page("sign-up form", "signup", "/accounts/signup/", holds="csrfmiddlewaretoken"),
    Page(
        "sign-up", "signup", "/accounts/signup/", BROWSER, "POST", 303, kind=FORM_BODY, body=_new_account, sets="buyer="
    ),
    Page("sign-out", "logout", "/accounts/logout/", BROWSER, "POST", 303, to="/", sets='buyer=""'),
    Page("staff's sign-out", "logout", "/accounts/logout/", BROWSER, "POST", 303, to="/", sets='buyer=""', staff=True),
    Page(
        *("language", "language", "/language/", BROWSER, "POST", 302),
        kind=FORM_BODY,
        body=_form(language="zh-hans", next="/"),
        to="/",
        sets="lang=zh-hans",
    ),
    Page("admin", "admin:index", "/admin/", holds='id="user-tools"', staff=True),
    Page("consoles", "console:index", "/admin/console/", holds="{slug}", staff=True),
    Page("console", "console:sale", "/admin/console/{slug}/", holds="{slug}", staff=True),
    Page("figures", "console:figures", "/admin/console/{slug}/figures", SCRIPT, holds="{{", staff=True),
    Page("act", "console:act", "/admin/console/{slug}/pause/", holds="csrfmiddlewaretoken", staff=True),
    Page(
        *("act of an offer", "console:act-of-offer", "/admin/console/{slug}/offers/{offer}/restock/"),
        holds="csrfmiddlewaretoken",
        staff=True,
    ),
    Page("admin's sign-in form", "admin:login", "/admin/login/", holds="csrfmiddlewaretoken"),
    Page("alive", "livez", "/livez", SCRIPT, holds="true"),
    Page("ready", "readyz", "/readyz", SCRIPT, holds='"ready": true'),
    Page("metrics", "metrics", "/metrics", "*/*", holds="# HELP"),
]


def routes(patterns: Iterable[URLPattern | URLResolver] = (), within: str = "") -> Iterator[str]:
    """The name of each address in shop/urls.py; of the admin, which is one program, the name of its index alone."""
    for pattern in patterns or get_resolver().url_patterns:
        if isinstance(pattern, URLPattern):
            yield within + str(pattern.name)
        elif pattern.namespace == "admin":
            yield "admin:index"
        else:
            yield from routes(pattern.url_patterns, f"{within}{pattern.namespace}:" if pattern.namespace else within)
