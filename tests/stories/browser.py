"""A browser without a window: cookies, redirects and forms, over real HTTP."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

#: Seconds an answer may take on a slow and busy machine.
TIMEOUT_SECONDS = 20


@dataclass
class Form:
    """A form of a page: where it goes and what it sends when nobody changes anything."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.found = url, list[Form]()
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(urljoin(self.url, given.get("action", ""))))
        elif tag in ("input", "button") and self.found and given.get("name") and given.get("type") != "checkbox":
            self.found[-1].fields.setdefault(given["name"], given.get("value", ""))
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self.found and self._select:
            self.found[-1].fields.setdefault(self._select, given.get("value", ""))


@dataclass
class Page:
    status: int
    url: str
    body: str
    headers: Any

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self, action_ends_with: str) -> Form:
        """The form that goes there. Fails when the page has none."""
        parser = _Forms(self.url)
        parser.feed(self.body)
        actions = [form.action for form in parser.found]
        found = [form for form in parser.found if urlsplit(form.action).path.endswith(action_ends_with)]
        assert found, f"no form to {action_ends_with} on {self.url}, only {actions}:\n{self.body[:2000]}"
        return found[0]


class Browser:
    """One person's browser. `accept` says whether it reads pages or is the script of one."""

    def __init__(self, shop: str) -> None:
        self.shop = shop
        self._open = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.ProxyHandler({})
        ).open

    def get(self, url: str, accept: str = "text/html") -> Page:
        return self._ask(url, None, {"Accept": accept})

    def submit(self, form: Form, **changed: str) -> Page:
        """Press the form's button, with some fields changed."""
        body = urlencode({**form.fields, **changed}).encode()
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(form.action))
        return self._ask(form.action, body, {"Accept": "text/html", "Origin": origin})

    def send(self, url: str, **fields: Any) -> Page:
        """POST JSON, as a page's script does."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        return self._ask(url, json.dumps(fields).encode(), headers)

    def ask(self, url: str) -> Any:
        """GET JSON."""
        return self.get(url, "application/json").json()

    def _ask(self, url: str, body: bytes | None, headers: dict[str, str]) -> Page:
        request = urllib.request.Request(urljoin(self.shop, url), data=body, headers=headers)
        try:
            answer = self._open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            return Page(answer.status, answer.url, answer.read().decode(), answer.headers)

    def sign_in(self, name: str, password: str, then: str = "/") -> Page:
        form = self.get(f"/accounts/login/?next={then}").form("/accounts/login/")
        return self.submit(form, username=name, password=password)
