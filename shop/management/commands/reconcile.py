"""`manage.py reconcile SLUG [--apply]`: where Redis and PostgreSQL differ, and the repair that only ever sells less."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from inventory import reconciliation
from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import orders, sale_events
from shop.management.refusals import refuse, sale_named


class Command(BaseCommand):
    help = (
        "Show the drift of a sale by its causes; with --apply, record what waits, resend what was lost and correct the "
        "counters. Adding to what is on sale takes two equal audits, half a minute apart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the sale")
        parser.add_argument("--apply", action="store_true")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        sale = sale_named(slug)
        try:
            for offer in sale.offers.all():
                if options["apply"]:
                    done = reconciliation.repair(offer.pk, orders.place)
                    sale_events.by_command("reconcile", slug, f"{offer}: {done}")
                    self.stdout.write(f"{offer}: {done}")
                self.stdout.write(f"{offer}: {reconciliation.audit(offer.pk)}")
        except reconciliation.UnderWay as reason:
            raise refuse(f"{reason}: try again in a moment") from reason
        except (InventoryUnavailable, AnswerLost) as away:
            raise refuse(f"stock Redis cannot be asked: {away}") from away
