"""Fill the stock shelf and the caches of a sale before its T0, step by step, so that staff see how far it is."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from inventory.outcomes import AnswerLost, InventoryUnavailable
from resilience.cache.away import TierAway
from resilience.clock import now_ms
from shop import catalog, opening, pages
from shop.away import DATABASE_AWAY
from shop.catalog import cache
from shop.models import Sale

#: Seconds before T0 from which on a sale is preheated by itself, again with each beat: what was filled too early would
#: be old when everybody comes.
BEFORE_SECONDS = 20
#: Seconds that staff can see what came of it.
REMEMBERED_SECONDS = 24 * 3_600

#: What may be away while a step is done. The next beat, or somebody's next press, does it again.
FAILURES = (InventoryUnavailable, AnswerLost, TierAway, *DATABASE_AWAY)

logger = logging.getLogger(__name__)


class Incomplete(Exception):
    """A step failed. The message says which one and why; what was filled before it stays."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the preheating of a sale is, or why it went no further."""

    done: int
    at_ms: int
    failure: str = ""

    @classmethod
    def of(cls, slug: str) -> Self | None:
        """What was told last; None when nobody has preheated the sale, or the caches have forgotten it."""
        told = cache.get(_key(slug))
        return cls(**told) if told else None

    @property
    def text(self) -> str:
        """`3 of 7: page in English`."""
        steps = [name for name, _fill in _steps()]
        name = steps[min(self.done, len(steps)) - 1] if self.done else _("asked for")
        return _("%(done)d of %(all)d: %(step)s") % {"done": self.done, "all": len(steps), "step": name}

    @property
    def is_complete(self) -> bool:
        return self.done == len(_steps())

    @property
    def is_under_way(self) -> bool:
        return not self.failure and not self.is_complete


def run(sale: Sale) -> list[str]:
    """Preheat a published sale; safe to repeat. Answers a line for each step, and tells each to those who look.

    Raises Incomplete when a step failed, and opening.NotPossible for a draft.
    """
    opening.refuse_draft(sale)
    lines: list[str] = []
    for name, fill in _steps():
        try:
            fill(sale)
        except FAILURES as reason:
            _tell(sale, Progress(len(lines), now_ms(), failure=str(reason)))
            raise Incomplete(f"{sale.slug} is not preheated, {name}: {reason}") from reason
        lines.append(_tell(sale, Progress(len(lines) + 1, now_ms())))
    return lines


def ask(sale: Sale, send: Callable[[str], object]) -> None:
    """Have it done by whom `send` sends the slug to. Raises opening.NotPossible for a draft, and what `send` raises."""
    opening.refuse_draft(sale)
    _tell(sale, Progress(0, now_ms()))  # first: what the worker tells must not be overwritten
    try:
        send(sale.slug)
    except Exception:
        cache.delete(_key(sale.slug))
        raise


def run_due() -> int:
    """Preheat the sales that open in a moment; one that fails does not stop the others. Answers how many are ready."""
    now = timezone.now()
    ready = 0
    for sale in Sale.objects.filter(
        state=Sale.State.SCHEDULED, opens_at__gt=now, opens_at__lte=now + timedelta(seconds=BEFORE_SECONDS)
    ):
        try:
            run(sale)
            ready += 1
        except Incomplete as reason:
            logger.warning("%s", reason)
    return ready


def _tell(sale: Sale, progress: Progress) -> str:
    cache.set(_key(sale.slug), asdict(progress), REMEMBERED_SECONDS)
    return progress.text


def _key(slug: str) -> str:
    return f"preheat:{slug}"


# --- The steps -------------------------------------------------------------------------------------------------------

Step = tuple[str | Promise, Callable[[Sale], Any]]


def _steps() -> list[Step]:
    languages = settings.LANGUAGES
    return [
        (_("stock on the shelf of Redis"), opening.put_on_shelf),
        (_("facts"), _fill_facts),
        (_("counters"), lambda sale: catalog.sale(sale.slug)),
        *((format_lazy(_("page in {language}"), language=name), _page_in(code)) for code, name in languages),
        *(
            (format_lazy(_("front page in {language}"), language=name), _front_page_in(code))
            for code, name in languages
        ),
    ]


def _fill_facts(sale: Sale) -> None:
    """Raises TierAway when there is nothing to fill but the memory of this process."""
    cache.ask_redis()
    catalog.facts(sale.slug)


def _page_in(language: str) -> Callable[[Sale], Any]:
    return lambda sale: pages.of_sale(sale.slug, language)


def _front_page_in(language: str) -> Callable[[Sale], Any]:
    return lambda _sale: pages.of_sales(language)
