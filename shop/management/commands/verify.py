"""`manage.py verify [SLUG] [--json]`: are the promises kept? Exit status 1 when one is broken."""

import json
import time
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from inventory import verification as units
from inventory.outcomes import InventoryUnavailable
from inventory.verification import Finding
from shop import verification as money
from shop.management.refusals import refuse, sale_named
from shop.models import Offer

#: Seconds that work under way between the stores may take before it counts as drift.
SETTLE_SECONDS = 15.0
#: Seconds between two looks meanwhile.
LOOK_SECONDS = 0.2

PROMISES = {
    1: "never oversold: quantity = available + held + sold",
    2: "no buyer has more than the limit",
    3: "nobody was served before the opening",
    4: "what is held has its order",
    5: "a paid order is paid for, and money for nothing goes back",
    8: "Redis and PostgreSQL tell the same",
}


class Command(BaseCommand):
    help = "Check every promise that can be checked from data."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="?", help="one sale; all of them when left out")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, slug: str | None, **options: Any) -> None:
        offers = Offer.objects.filter(sale=sale_named(slug)) if slug else Offer.objects.all()
        offer_ids = list(offers.values_list("pk", flat=True))
        try:
            found = _settled_findings(offer_ids)
        except InventoryUnavailable as away:
            raise refuse(f"stock Redis cannot be asked: {away}") from away

        self.stdout.write(_as_json(offer_ids, found) if options["json"] else _as_text(offer_ids, found))
        if found:
            raise SystemExit(1)


def _settled_findings(offer_ids: list[int]) -> list[Finding]:
    """What is still wrong after what is under way had time to arrive."""
    deadline = time.monotonic() + SETTLE_SECONDS
    suspects = offer_ids
    while True:
        found = [finding for pk in suspects for finding in (*units.findings(pk), *money.findings(pk))]
        suspects = sorted({finding.offer_id for finding in found})
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_SECONDS)


def _as_json(offer_ids: list[int], found: list[Finding]) -> str:
    broken = [asdict(finding) for finding in found]
    return json.dumps({"kept": not found, "offers": len(offer_ids), "broken": broken}, indent=2)


def _as_text(offer_ids: list[int], found: list[Finding]) -> str:
    broken = {finding.promise for finding in found}
    lines = [f"{'BROKEN' if number in broken else 'kept':8}{text}" for number, text in PROMISES.items()]
    lines += [f"        offer {finding.offer_id}: {finding.seen}" for finding in found]
    return "\n".join([*lines, f"{len(offer_ids)} offers checked"])
