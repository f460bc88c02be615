"""Words as Django's answers, and what Django calls when something went wrong."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.utils.translation import gettext

from shop import words
from shop.asked import Asked


def wants_page(request: HttpRequest) -> bool:
    return Asked.of(request).wants_page


def answer(request: HttpRequest, word: str, detail: str | None = None, **more: Any) -> HttpResponse:
    """As `words.reply`."""
    return words.reply(Asked.of(request), word, detail, **more).for_django()


def slow_down(request: HttpRequest, wait_seconds: float, back_url: str) -> HttpResponse:
    return words.slow_down(Asked.of(request), wait_seconds, back_url).for_django()


def sign_in(request: HttpRequest, back_url: str) -> HttpResponse:
    return words.sign_in(Asked.of(request), back_url).for_django()


def see_other(url: str) -> HttpResponse:
    """303: look there, by GET."""
    response = HttpResponseRedirect(url)
    response.status_code = 303
    response["Cache-Control"] = "no-store"
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, "INVALID")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, "FORBIDDEN")


def without_token(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form of ours that came back without the token we put into it."""
    if wants_page(request):
        return HttpResponse(render_to_string("403_csrf.html", request=request), status=403)
    return answer(request, "CROSS_SITE")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, "NOT_FOUND", gettext("There is nothing at this address."), back_url="/")


def error(request: HttpRequest) -> HttpResponse:
    """Our fault: a page that needs nothing which could be broken too."""
    if not wants_page(request):
        return answer(request, "ERROR")
    return HttpResponse(render_to_string("500.html"), status=500)
