"""What the edge says when nobody behind it does: files, in each language, as a page and as JSON.

Names: BUSY-3.en.html (come back in 3 seconds), BUSY_POST-3.en.json, TOO_LARGE.zh-hans.html. `shop/local/nginx.conf`
names them.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from shop import degraded, words

#: The words that nginx itself has to say.
WORDS = ("UNKNOWN", "INVALID", "METHOD", "TOO_LARGE", "SLOW_DOWN")
#: Seconds after which the busy come back: one of these each, so that they do not come together.
WAIT_SECONDS = (2, 3, 4, 5, 6, 8)


def write(folder: Path) -> None:
    """All of them, each at once: nginx may be reading."""
    for name, content in _files():
        draft = folder / f".{name}"
        draft.write_bytes(content)
        draft.replace(folder / name)


def _files() -> Iterator[tuple[str, bytes]]:
    for (kind, language, is_page, is_post, seconds), page in degraded.Pages():
        if kind is degraded.Kind.BUSY and seconds in WAIT_SECONDS:
            form = "html" if is_page else "json"
            yield f"BUSY{'_POST' if is_post else ''}-{seconds}.{language}.{form}", page.body
    for language, _ in settings.LANGUAGES:
        for word in WORDS:
            with translation.override(language):
                yield f"{word}.{language}.html", _page(word)
                yield f"{word}.{language}.json", _json(word)


def _page(word: str) -> bytes:
    row = words.WORDS[word]
    context = {"outcome": word, "title": row.title, "detail": row.detail}
    context |= {"retry_after": words.RETRY_SECONDS} if row.retry else {}
    return render_to_string("shop/answer.html", context).encode()


def _json(word: str) -> bytes:
    return json.dumps({"outcome": word, "detail": str(words.WORDS[word].detail)}).encode()
