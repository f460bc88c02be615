"""`manage.py reread SLUG`: tell PostgreSQL again what it has forgotten and Redis still knows."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from inventory import rereading
from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import orders, sale_events
from shop.management.refusals import refuse, sale_named


class Command(BaseCommand):
    help = "After a failover or a backup that lost commits: write down again what Redis still knows. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the sale")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_named(slug)
        try:
            for offer in sale.offers.all():
                line = str(rereading.reread(offer.pk, orders.place, orders.follow))
                sale_events.by_command("reread", slug, f"{offer}: {line}")
                self.stdout.write(line)
        except (InventoryUnavailable, AnswerLost) as away:
            raise refuse(f"stock Redis cannot be asked: {away}") from away
