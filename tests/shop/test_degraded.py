"""The pages for when there is no time for pages: what they say, and that they need nothing and nobody else."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders

from shop import degraded, words
from shop.degraded import RETURNS_SECONDS, Kind, Page, Pages, drawn

PAGES = Pages()
LANGUAGES = [code for code, _ in settings.LANGUAGES]
#: Bytes with which everybody can be told at once: a hundred thousand of them a second fill ten lines of a gigabit.
PAGE_MAXIMUM = 4_096


def some(kind: Kind, *, is_page: bool = True, is_post: bool = False) -> Page:
    seconds = 8 if words.WORDS[kind].retry else 0
    return dict(PAGES)[kind, "en", is_page, is_post, seconds]


def test_there_is_one_for_everybody() -> None:
    """Each word, language, kind of client and way of asking, each with as many times to come back as there are."""
    keys = [key for key, _ in PAGES]

    with_return = [kind for kind in Kind if words.WORDS[kind].retry]
    assert with_return == [Kind.BUSY, Kind.PAUSED, Kind.BACK_SOON]
    assert len(keys) == len(LANGUAGES) * 4 * (len(with_return) * len(RETURNS_SECONDS) + 1)


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        (Kind.BUSY, "503 Service Unavailable", "BUSY"),
        (Kind.PAUSED, "503 Service Unavailable", "PAUSED"),
        (Kind.BACK_SOON, "503 Service Unavailable", "BUSY"),
        (Kind.SOLD_OUT, "409 Conflict", "SOLD_OUT"),
    ],
)
def test_the_words_of_the_interface(kind: Kind, status: str, outcome: str) -> None:
    """Status and word are those of the table that all answers follow."""
    page, told = some(kind), some(kind, is_page=False)

    assert page.status == told.status == status
    assert f'data-outcome="{outcome}"' in page.body.decode()
    assert json.loads(told.body) == {"outcome": outcome, "detail": str(words.WORDS[kind].detail)}


def test_nobody_keeps_one_and_none_sets_a_cookie() -> None:
    for _, page in PAGES:
        names = [name for name, _ in page.headers]
        headers = dict(page.headers)
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Length"] == str(len(page.body))
        assert len(page.body) <= PAGE_MAXIMUM
        assert len(names) == len(set(names))
        assert "Set-Cookie" not in names


class _Parts(HTMLParser):
    """The elements, the words, and what a browser would fetch."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("is_post", [False, True], ids=["looked", "pressed"])
def test_a_page_for_people(kind: Kind, is_post: bool) -> None:
    """A language, one heading, a title; nothing is asked of a busy server but the one script."""
    parts = _Parts(some(kind, is_post=is_post))

    assert parts.all("html") == [{"lang": "en"}]
    assert len(parts.all("h1")) == len(parts.all("main")) == len(parts.all("title")) == 1
    assert [link["href"] for link in parts.all("link")] == ["data:,"]
    assert not parts.all("img") + parts.all("form") + parts.all("iframe")
    assert not any(name.startswith("on") or name == "style" for _, attributes in parts.elements for name in attributes)
    for script in parts.all("script"):
        source = str(script["src"])
        assert finders.find(source.removeprefix(settings.STATIC_URL))


def test_the_policy_allows_its_own_style_and_no_other() -> None:
    """By the digest of its bytes, so that a changed stylesheet cannot be forgotten there."""
    for (_, _, is_page, _, _), page in PAGES:
        if not is_page:
            continue
        policy = dict(page.headers)["Content-Security-Policy"]
        style = re.search(rb"<style>(.*?)</style>", page.body, re.DOTALL)
        assert style
        digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy


def test_it_comes_back_by_itself() -> None:
    """With a script after the seconds, without one by the same, and later in any case if the script did not come."""
    looked, pressed = _Parts(some(Kind.BUSY)), _Parts(some(Kind.BUSY, is_post=True))

    assert [meta["content"] for meta in looked.all("meta") if meta.get("http-equiv")] == ["8", "24"]
    assert [meta["content"] for meta in pressed.all("meta") if meta.get("http-equiv")] == ["8;url=./", "24;url=./"]
    assert looked.all("main")[0]["data-seconds"] == "8"
    assert pressed.all("main")[0]["data-back"] == "./"  # of /sales/summer/buy that is the sale


def test_it_says_what_is_safe() -> None:
    """Who pressed hears that nothing was charged and pressing again is safe; who looked, that nothing is lost."""
    assert "Pressing once more is safe" in _Parts(some(Kind.BUSY, is_post=True)).text
    assert "is safe. Loading this page again changes nothing" in _Parts(some(Kind.BACK_SOON)).text
    assert "Nothing was charged" in _Parts(some(Kind.SOLD_OUT)).text


def test_sold_out_does_not_come_back() -> None:
    """There is nothing to wait for, and the way back is a link."""
    parts = _Parts(some(Kind.SOLD_OUT, is_post=True))

    assert not parts.all("script")
    assert not [meta for meta in parts.all("meta") if meta.get("http-equiv")]
    assert "Retry-After" not in dict(some(Kind.SOLD_OUT).headers)
    assert {"class": "way", "href": "./"} in parts.all("a")


@pytest.mark.parametrize("mean", [2.0, 10.0, 60.0])
def test_they_do_not_all_come_back_at_once(mean: float) -> None:
    """A thousand visitors hear many different numbers, about half of the mean to one and a half of it."""
    told = [drawn(mean) for _ in range(1_000)]

    assert len(set(told)) >= 3
    assert max(told.count(each) for each in set(told)) < 650
    assert mean * 0.4 <= min(told) < mean < max(told) <= mean * 1.6


def test_every_language_has_its_own() -> None:
    """Marked as such, whether or not somebody has translated it yet."""
    for (_, language, is_page, _, _), page in PAGES:
        assert dict(page.headers)["Content-Language"] == language
        if is_page:
            assert f'<html lang="{language}">' in page.body.decode()


def test_the_header_says_what_the_page_says() -> None:
    for (_, _, is_page, _, seconds), page in PAGES:
        assert dict(page.headers).get("Retry-After", "0") == str(seconds)
        if is_page and seconds:
            assert f'data-seconds="{seconds}"' in page.body.decode()
    assert {seconds for (_, _, _, _, seconds), _ in PAGES} == {0, *degraded.RETURNS_SECONDS}
