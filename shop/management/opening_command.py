"""What `preheat`, `pause`, `resume` and `close` share: a slug, a verb of `shop.opening`, and what came of it."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import opening, preheating, sale_events
from shop.management.refusals import refuse, sale_named
from shop.models import Sale


class OpeningCommand(BaseCommand):
    verb: Callable[[Sale], list[str]]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the sale")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_named(slug)
        try:
            lines = type(self).verb(sale)
        except (opening.NotPossible, preheating.Incomplete) as reason:
            raise refuse(str(reason)) from reason
        except (InventoryUnavailable, AnswerLost) as away:
            raise refuse(f"stock Redis refused, nothing was changed: {away}") from away
        sale_events.by_command(type(self).verb.__name__, slug)
        for line in lines:
            self.stdout.write(line)
        self.stdout.write(f"{slug} is {sale.state}")
