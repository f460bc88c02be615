"""`manage.py rebuild SLUG`: fill Redis anew from PostgreSQL, after it lost data."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from inventory import outbox, recovery
from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import orders, publishing, sale_events
from shop.management.refusals import refuse, sale_named
from shop.models import Sale


class Command(BaseCommand):
    help = "Fill Redis anew from PostgreSQL under a new epoch. Never puts more on sale than is left."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the sale")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_named(slug)
        if sale.state == Sale.State.DRAFT:
            raise refuse(f"{slug} is a draft: it was never in Redis")
        try:
            for offer in sale.offers.all():
                line = recovery.rebuild(offer.pk, orders.place)
                sale_events.by_command("rebuild", slug, f"{offer}: {line}")
                self.stdout.write(line)
        except (InventoryUnavailable, AnswerLost) as away:
            raise refuse(f"stock Redis cannot be asked: {away}") from away
        except outbox.LostCommits as lost:
            raise refuse(str(lost)) from lost
        publishing.outdate([slug])
