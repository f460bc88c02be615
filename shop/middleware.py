"""What every answer carries, and who may post here."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import DataError
from django.http import HttpRequest, HttpResponse

from resilience.clock import now_ms
from resilience.log_lines import label, relabel
from shop import answers
from shop.asked import is_foreign, request_id
from shop.away import DATABASE_AWAY

Next = Callable[[HttpRequest], HttpResponse]


class RequestFrame:
    """`X-Request-Id` (the client's own when it is a decent one), `X-Server-Now-Ms` and the content security policy."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        self.policy = (
            "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none';"
            f" form-action 'self' {settings.PROVIDER_URL}"  # Pay leads to the provider, and browsers check redirects
        )

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.id = request_id(request.META)  # type: ignore[attr-defined]
        relabel(request=request.id)  # type: ignore[attr-defined]  # Django logs an answer when all this has ended
        response = self.get_response(request)
        response["X-Request-Id"] = request.id  # type: ignore[attr-defined]
        response["X-Server-Now-Ms"] = str(now_ms())
        response.setdefault("Content-Security-Policy", self.policy)
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: dict[str, Any]) -> None:
        """Its log lines name the sale, once the address has been understood."""
        if slug := kwargs.get("slug"):
            label(sale=slug)


class Sessions(SessionMiddleware):
    """Django's, which writes a session when its view has ended. That PostgreSQL is away by then is said as it is:
    Django takes every failure for a session that somebody has deleted meanwhile, and the request for a senseless one.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        try:
            return super().process_response(request, response)
        except SessionInterrupted as interrupted:
            failed = interrupted.__context__ and interrupted.__context__.__context__  # while it told of what, of what
            if not isinstance(failed, DATABASE_AWAY):
                raise
        except DATABASE_AWAY:
            pass
        return answers.answer(request, "BACK_SOON")


class ForeignPostRefusal:
    """Refuses what another site makes a signed-in browser send. Shopper pages need no token for that.

    The provider's callback has no Origin and is authentic by its signature.
    """

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method not in ("GET", "HEAD", "OPTIONS") and is_foreign(request.META, request.get_host()):
            return answers.answer(request, "CROSS_SITE")
        return self.get_response(request)


class SenselessValueRefusal:
    """Answers INVALID, and no error page, to values that PostgreSQL has no place for: NUL, or a year of eleven digits.

    Our own views read their input strictly; Django's admin hands on what an address says.
    """

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        has_nul = "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", "")
        if has_nul and request.path_info.startswith("/admin/"):
            return answers.answer(request, "INVALID")
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        senseless = isinstance(exception, (DataError, OverflowError))
        return answers.answer(request, "INVALID") if senseless else None


class DatabaseAwayAnswer:
    """Answers BACK_SOON, and no error page, where a view that needs PostgreSQL finds it away: ours, and the admin's."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return answers.answer(request, "BACK_SOON") if isinstance(exception, DATABASE_AWAY) else None
