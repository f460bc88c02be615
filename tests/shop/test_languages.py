"""Whatever the shop says, it says in every language; and it answers whoever asks for one that it does not speak."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation
from django.utils.translation import gettext, ngettext, to_locale

from shop import words
from shop.models import Sale
from tests import messages
from tests.shop.doors import ThroughExpress

#: What a translation must not lose: values, and the tags whose values the pages' scripts rewrite.
PLACEHOLDERS = re.compile(r"%(?:\(\w+\))?[-+\d]*[sd]|\{\w+\}|<[^>]+>")
#: What to do about a red test here.
ADVICE = "run `make messages`, fill in what it names, run it again"

catalogues = pytest.mark.parametrize("path", messages.catalogues(), ids=lambda path: path.parts[-3])


def test_every_language_but_english_has_a_catalogue() -> None:
    """English is what the code says; a language in the settings without a catalogue would be English, too."""
    found = {path.parts[-3] for path in messages.catalogues()}

    assert found == {to_locale(code) for code, _ in settings.LANGUAGES} - {"en"}


@catalogues
def test_a_catalogue_has_what_the_shop_says_and_nothing_else(path: Path) -> None:
    """One that is missing reads as English in the middle of a page; one that nobody says any more is litter."""
    said = {(message.id, message.context) for message in messages.messages_of(messages.gathered())}
    catalogue = {(message.id, message.context): message for message in messages.messages_of(messages.read(path))}

    assert sorted(map(str, said - set(catalogue))) == [], f"not in {path.name} yet: {ADVICE}"
    assert sorted(map(str, set(catalogue) - said)) == [], f"nobody says this any more: {ADVICE}"
    assert [key for key, message in catalogue.items() if not messages.is_translated(message)] == [], ADVICE


@catalogues
def test_a_translation_keeps_every_value_of_its_message(path: Path) -> None:
    """The same placeholders and tags, in whatever order; of a plural, those of its plural form."""
    wrong = []
    for message in messages.messages_of(messages.read(path)):
        original = message.id[-1] if isinstance(message.id, tuple) else message.id
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        wrong += [
            (original, text)
            for text in texts
            if text and sorted(PLACEHOLDERS.findall(text)) != sorted(PLACEHOLDERS.findall(original))
        ]

    assert wrong == []


@catalogues
def test_what_django_reads_is_what_people_wrote(path: Path) -> None:
    """The compiled catalogue is committed, so that a shop needs no gettext: it must not be an older one."""
    assert path.with_suffix(".mo").read_bytes() == messages.compiled(path), "run `make messages`"


def test_django_finds_the_catalogue() -> None:
    """Plain messages and plurals; form labels are Django's own."""
    with translation.override("zh-hans"):
        assert gettext("Sold out") == "已抢光"
        assert ngettext("%(units)s unit", "%(units)s units", 2) % {"units": 2} == "2 件"
        assert gettext("Password") == "密码"


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}, "zh-hans"),
        ({"accept-language": "fr,en;q=0.5"}, "en"),
        ({"accept-language": "tlh"}, "en"),
        ({"accept-language": "\x01;;q=,,zh-hans-" + "x" * 500}, "en"),
        ({"accept-language": "en", "cookie": "lang=zh-hans"}, "zh-hans"),
        ({"accept-language": "zh-CN", "cookie": "lang=tlh"}, "zh-hans"),
        ({"cookie": "lang=../../etc/passwd"}, "en"),
    ],
)
def test_a_page_speaks_the_readers_language(sale: Sale, client: Client, headers: dict[str, str], language: str) -> None:
    """The chosen one, else the first that the browser accepts and the shop speaks, else English."""
    page = client.get(f"/sales/{sale.slug}/", headers=headers)

    assert (page.status_code, page["Content-Language"]) == (200, language)
    assert f'<html lang="{language}">' in page.content.decode()


@pytest.mark.parametrize("browser", [Client, ThroughExpress])
def test_a_ticket_tells_its_end_in_the_readers_language(
    sale: Sale, shopper: Client, browser: Callable[[], Client]
) -> None:
    """Also in the express lane, where no middleware has chosen a language for the thread."""
    reader = browser()
    reader.cookies = shopper.cookies

    page = reader.post(f"/sales/{sale.slug}/ticket", headers={"accept": "text/html", "accept-language": "zh-CN"})

    assert page.status_code == 200
    assert re.search(r"本页即.*\d{4}年\d{1,2}月\d{1,2}日", page.content.decode(), re.DOTALL)


def test_the_switch_keeps_what_was_chosen(client: Client, sale: Sale) -> None:
    """It leads back to the page that it was pressed on; a language that does not exist changes nothing."""
    page = f"http://testserver/sales/{sale.slug}/"

    chosen = client.post("/language/", {"language": "zh-hans", "next": ""}, headers={"referer": page})
    assert (chosen.status_code, chosen["Location"]) == (302, page)
    assert "剩余" in client.get(page).content.decode()

    client.post("/language/", {"language": "tlh", "next": ""}, headers={"referer": page})
    assert client.cookies["lang"].value == "zh-hans"
    assert client.get(page)["Content-Language"] == "zh-hans"


@pytest.mark.parametrize(
    ("sent", "word"), [({"host": "evil.example"}, "INVALID"), ({"sec-fetch-site": "cross-site"}, "CROSS_SITE")]
)
def test_a_refusal_before_anybody_chose_a_language_speaks_the_one_asked_for(sent: dict[str, str], word: str) -> None:
    """Not that of whoever was served by this thread before."""
    with translation.override("en"):
        expected = str(words.WORDS[word].detail)

    with translation.override("zh-hans"):
        answer = Client().post("/sales/summer/buy", headers={"accept-language": "en", **sent}).json()

    assert (answer["outcome"], answer["detail"]) == (word, expected)
