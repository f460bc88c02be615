"""Pages that are the same bytes for everybody who speaks a language: rendered and compressed once, then cached."""

import gzip
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from shop import catalog, levels
from shop.catalog import cache
from shop.decoded import Decoded
from shop.lately import Lately

#: Seconds a rendered page is fresh; its script asks for what is newer.
PAGE_SECONDS = 1
#: Seconds that it serves on while somebody renders it again: whoever comes after a quiet while does not wait.
PAGE_STALE_SECONDS = 10
#: zlib's best: a page is compressed once a second and sent thousands of times.
COMPRESSION_LEVEL = 9

LANGUAGES = [code for code, _ in settings.LANGUAGES]


@dataclass(frozen=True, slots=True)
class Page:
    """Its HTML, the same compressed, and a name that changes with its content."""

    html: bytes
    gzipped: bytes
    etag: str

    @classmethod
    def from_json(cls, cached: dict[str, str]) -> Self:
        return cls(cached["html"].encode(), b64decode(cached["gzipped"]), cached["etag"])


_pages = Decoded[Page](Page.from_json)


def of_sale(slug: str, language: str) -> Page | None:
    """The page of a published sale, or None."""
    return _seen.of((slug, language), _of_sale, slug, language)


_seen = Lately[Page](catalog.MOMENT_SECONDS)


def _of_sale(slug: str, language: str) -> Page | None:
    return _page(sale_key(slug, language), partial(_load_sale, slug, language)) if catalog.is_published(slug) else None


def of_sales(language: str) -> Page:
    """The front page."""
    page = _page(sales_key(language), partial(_load_sales, language))
    assert page  # there is always one
    return page


def sale_key(slug: str, language: str) -> str:
    return f"sale:{slug}:page:{language}"


def sales_key(language: str) -> str:
    return f"sales:page:{language}"


def _page(key: str, load: Callable[[], dict[str, str] | None]) -> Page | None:
    fresh_seconds, stale_seconds = map(levels.stretched, (PAGE_SECONDS, PAGE_STALE_SECONDS))
    cached = cache.get_or_set(key, load, fresh_seconds, stale_seconds=stale_seconds)
    return None if cached is None else _pages.of(key, cached)


# --- Called by whatever thread refreshes the cache: nobody has told it a language ------------------------------------


def _load_sale(slug: str, language: str) -> dict[str, str] | None:
    found = catalog.sale(slug)
    return _rendered("shop/sale.html", {"sale": found}, language) if found else None


def _load_sales(language: str) -> dict[str, str]:
    return _rendered("shop/sales.html", {"sales": catalog.sales()}, language)


def _rendered(template: str, context: dict[str, Any], language: str) -> dict[str, str]:
    """As JSON can hold it."""
    with translation.override(language):
        html = _without_indents(render_to_string(template, context))
    return {
        "html": html,
        "gzipped": b64encode(gzip.compress(html.encode(), COMPRESSION_LEVEL, mtime=0)).decode(),
        "etag": hashlib.blake2b(html.encode(), digest_size=12).hexdigest(),
    }


def _without_indents(html: str) -> str:
    """They make a twentieth of a compressed page."""
    return "\n".join(line.strip() for line in html.splitlines() if line.strip())
