"""How a word becomes an answer: JSON for programs, a page for people, with one status and one sentence for both."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple
from urllib.parse import quote

from django.utils import translation
from django.utils.translation import gettext_lazy as _

from shop import replies, stencils
from shop.asked import Asked
from shop.replies import Reply

#: Seconds after which a refused client may come back.
RETRY_SECONDS = 2
#: What a click consists of.
KNOWN_FIELDS = ("offer", "units", "ticket")


@dataclass(frozen=True, slots=True)
class Word:
    """One row of the interface table."""

    status: int
    title: Any
    detail: Any
    retry: bool = False


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


class Again(NamedTuple):
    """What a page without script may send once more: of the fields that were sent, those that we know."""

    url: str
    fields: dict[str, Any]


def spoken(word: str) -> str:
    """The word that clients hear."""
    return _SPOKEN_AS.get(word, word)


def reply(
    asked: Asked,
    word: str,
    detail: str | None = None,
    *,
    back_url: str | None = None,
    again: Again | None = None,
    retry_seconds: int = RETRY_SECONDS,
    **fields: Any,
) -> Reply:
    """The word as JSON or as a page, with its status; further fields go into the JSON.

    A page for a word that is worth repeating offers to send `again` what was sent.
    """
    row = WORDS[word]
    outcome, (title, sentence) = spoken(word), _texts(word, asked.language)
    if asked.wants_page:
        shared: dict[str, Hashable] = {
            "outcome": outcome,
            "title": title,
            "retry_after": retry_seconds if row.retry else None,
        }
        own = {"detail": detail or sentence, "request_id": asked.id, **_way_back(back_url)}
        page = stencils.draw("shop/answer.html", asked.language, *_with_form(shared, own, again if row.retry else None))
        made = Reply(row.status, page, replies.HTML, [replies.NEVER_KEPT])
    elif detail:
        made = replies.of_json({"outcome": outcome, "detail": detail, **fields}, row.status)
    else:
        body = _alone(word, asked.language)
        if fields:
            body = body[:-1] + b", " + replies.encode(fields).encode()[1:]
        made = Reply(row.status, body, replies.JSON, [replies.NEVER_KEPT])
    if row.retry:
        made.headers.append(("Retry-After", str(retry_seconds)))
    return made


@lru_cache(None)  # words times languages
def _texts(word: str, language: str) -> tuple[str, str]:
    with translation.override(language):
        return str(WORDS[word].title), str(WORDS[word].detail)


@lru_cache(None)
def _alone(word: str, language: str) -> bytes:
    """A word and its sentence as JSON: the same bytes each time."""
    return replies.of_json({"outcome": spoken(word), "detail": _texts(word, language)[1]}).body


def _way_back(url: str | None) -> dict[str, str]:
    return {"back_url": url, "next_url": quote(url)} if url and url != "/" else {}


def _with_form(
    shared: dict[str, Hashable], own: dict[str, str], again: Again | None
) -> tuple[dict[str, Hashable], dict[str, str]]:
    """And the form that sends the same once more."""
    if again is None:
        return shared, own
    sent = {f"sent_{name}": str(again.fields[name]) for name in KNOWN_FIELDS if name in again.fields}
    fields = tuple((name.removeprefix("sent_"), stencils.hole(name)) for name in sent)
    return {**shared, "again_fields": fields}, {**own, **sent, "again_url": again.url}


def slow_down(asked: Asked, wait_seconds: float, back_url: str) -> Reply:
    """Too fast: come again after so many seconds, rounded up because the header knows whole ones only."""
    return reply(asked, "SLOW_DOWN", back_url=back_url, retry_seconds=ceil(wait_seconds))


def sign_in(asked: Asked, back_url: str) -> Reply:
    """Programs hear SIGN_IN; people are taken to the form and brought back."""
    if not asked.wants_page:
        return reply(asked, "SIGN_IN")
    return replies.see_other(f"/accounts/login/?next={quote(back_url)}")
