"""How a word becomes an answer: JSON for programs, a page for people, with one status and one sentence for both."""

from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

#: Seconds after which a refused client may come back.
RETRY_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Word:
    """One row of the interface table."""

    status: int
    title: Any
    detail: Any
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """What a page without script may send once more."""

    url: str
    fields: tuple[tuple[str, Any], ...]


WORDS = {
    "RESERVED": Word(202, _("Reserved for you"), _("Your units are held. We are writing your order down.")),
    "REPEATED": Word(200, _("Yours already"), _("You have pressed this button before: this is the same reservation.")),
    "SOLD_OUT": Word(409, _("Sold out"), _("No units are left. Unpaid ones may still come back.")),
    "LIMIT_REACHED": Word(409, _("That is the limit"), _("You already have as many units as one buyer may have.")),
    "NOT_OPEN": Word(409, _("Not open yet"), _("The sale has not opened yet.")),
    "CLOSED": Word(409, _("Closed"), _("This sale is over.")),
    "MISMATCH": Word(409, _("Another purchase"), _("This ticket was used with other units, or is for another offer.")),
    "PAUSED": Word(409, _("Paused"), _("The sale is paused for a moment. Nothing was bought.")),
    "UNAVAILABLE": Word(
        503,
        _("Paused"),
        _("The sale is paused by a fault. Nothing was bought; it is safe to try again."),
        retry=True,
    ),
    "UNKNOWN": Word(
        503,
        _("We are not sure yet"),
        _("Your click was sent, but no answer came. Pressing again is safe: it is the same reservation."),
        retry=True,
    ),
    "BUSY": Word(503, _("Very busy"), _("Nothing was sent. It is safe to try again."), retry=True),
    "SLOW_DOWN": Word(429, _("Too fast"), _("Please wait a moment and try again."), retry=True),
    "INVALID": Word(400, _("That makes no sense"), _("Something in this request is missing or wrong.")),
    "SIGN_IN": Word(401, _("Please sign in"), _("Sign in to buy.")),
    "TICKET_REFUSED": Word(403, _("Ticket refused"), _("This ticket is not valid here. Press Buy for a new one.")),
    "CROSS_SITE": Word(403, _("From another site"), _("This request came from another site and was refused.")),
    "FORBIDDEN": Word(403, _("Not allowed"), _("You may not do this.")),
    "NOT_FOUND": Word(404, _("Not found"), _("There is nothing here.")),
    "METHOD": Word(405, _("Wrong method"), _("This address does not take that method.")),
    "NO_LONGER": Word(409, _("Too late"), _("This order has been paid, cancelled or has expired.")),
    "TOO_LARGE": Word(413, _("Too large"), _("This request is too large.")),
    "UNSUPPORTED": Word(415, _("Unknown kind"), _("Send JSON or a form.")),
    "BACK_SOON": Word(503, _("Back soon"), _("This part of the shop is back soon. Nothing is lost."), retry=True),
    "ERROR": Word(500, _("Our fault"), _("Something broke on our side. It is safe to look at your orders.")),
}

#: Words that clients know under another name: a fault pauses the sale as staff would, only the status differs.
_SPOKEN_AS = {"UNAVAILABLE": "PAUSED", "BACK_SOON": "BUSY"}


def wants_page(request: HttpRequest) -> bool:
    """People's browsers ask for HTML; programs, and our own scripts, do not."""
    return "text/html" in request.headers.get("Accept", "")


def answer(
    request: HttpRequest,
    word: str,
    detail: str | None = None,
    *,
    back_url: str | None = None,
    again: Again | None = None,
    retry_seconds: int = RETRY_SECONDS,
    **fields: Any,
) -> HttpResponse:
    """The word as JSON or as a page, with its status; further fields go into the JSON.

    A page for a word that is worth repeating offers to send `again` what was sent.
    """
    row = WORDS[word]
    spoken = _SPOKEN_AS.get(word, word)
    detail = detail or str(row.detail)
    response: HttpResponse
    if wants_page(request):
        context = {
            "outcome": spoken,
            "title": row.title,
            "detail": detail,
            "request_id": getattr(request, "id", ""),
            "back_url": back_url,
            "again": again if row.retry else None,
            "retry_after": retry_seconds if row.retry else None,
        }
        response = render(request, "shop/answer.html", context, status=row.status)
    else:
        response = JsonResponse({"outcome": spoken, "detail": detail, **fields}, status=row.status)
    if row.retry:
        response["Retry-After"] = str(retry_seconds)
    response["Cache-Control"] = "no-store"
    return response


def slow_down(request: HttpRequest, wait_seconds: float, back_url: str) -> HttpResponse:
    """Too fast: come again after so many seconds, rounded up because the header knows whole ones only."""
    return answer(request, "SLOW_DOWN", back_url=back_url, retry_seconds=ceil(wait_seconds))


def sign_in(request: HttpRequest, back_url: str) -> HttpResponse:
    """Programs hear SIGN_IN; people are taken to the form and brought back."""
    if not wants_page(request):
        return answer(request, "SIGN_IN")
    return see_other(f"/accounts/login/?next={quote(back_url)}")


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
