"""The catalogues of the shop's languages, kept without GNU gettext: `make messages` gathers, merges and compiles.

English is what the code says and needs no catalogue. Each other language has a `django.po` below `shop/locale`, which
people edit, and beside it a `django.mo`, which Django reads and nobody has to make before the shop runs.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from babel.messages import Catalog
from babel.messages.catalog import Message
from babel.messages.extract import extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).parents[1]
LOCALE = ROOT / "shop" / "locale"
#: The packages that speak to people.
PACKAGES = ("shop", "inventory")
#: Functions whose arguments are messages -> which argument is what, as Babel counts. `_` is our name of the lazy one.
KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), ((1, "c"), 2, 3)),
}
#: Characters in a line of a catalogue.
WIDTH = 120


def main() -> None:
    settings.configure()  # Django's templates are read without a shop
    template = gathered()
    for path in catalogues():
        merged = read(path)
        merged.update(template, no_fuzzy_matching=True, update_creation_date=False)
        merged.obsolete.clear()
        path.write_bytes(_written(merged))
        path.with_suffix(".mo").write_bytes(compiled(path))
        missing = [message.id for message in messages_of(merged) if not is_translated(message)]
        told = f"{path.relative_to(ROOT)}: {len(template)} messages, {len(missing)} not translated"
        print(told, *missing, sep="\n  ")  # noqa: T201  # a command's answer


def catalogues() -> list[Path]:
    return sorted(LOCALE.glob("*/LC_MESSAGES/django.po"))


def gathered() -> Catalog:
    """Whatever the code and the templates say, with the files that say it."""
    template = Catalog()
    for path in _sources():
        for function, texts, context in _messages_in(path):
            place = (str(path.relative_to(ROOT)), 0)
            template.add(texts if function.startswith("n") else texts[0], locations=[place], context=context)
    return template


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        for kind in ("py", "html"):
            yield from sorted((ROOT / package).rglob(f"*.{kind}"))


def _messages_in(path: Path) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    text = path.read_text()
    if path.suffix == ".html":  # what Django makes of a template is Python but for its indents
        text = "\n".join(line.lstrip() for line in templatize(text, origin=str(path)).splitlines())
    for _, function, found, _ in extract_python(BytesIO(text.encode()), KEYWORDS, [], {"encoding": "utf-8"}):
        texts = [found] if isinstance(found, str) else list(found)
        context = texts.pop(0) if "pgettext" in function else None
        size = 2 if function.lstrip("_").startswith("n") else 1
        if all(texts[:size]):  # None is no text but an expression, which gettext hears at another place
            yield function, tuple(texts[:size]), context


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.parts[-3])


def compiled(path: Path) -> bytes:
    """What belongs into the `.mo` beside it."""
    made = BytesIO()
    write_mo(made, read(path))
    return made.getvalue()


def _written(catalog: Catalog) -> bytes:
    made = BytesIO()
    write_po(made, catalog, width=WIDTH, sort_by_file=True, include_lineno=False)
    return made.getvalue()


def messages_of(catalog: Catalog) -> Iterable[Message]:
    """All but the header."""
    return [message for message in catalog if message.id]


def is_translated(message: Message) -> bool:
    texts = message.string if isinstance(message.string, tuple) else (message.string,)
    return all(texts) and not message.fuzzy


if __name__ == "__main__":
    main()
