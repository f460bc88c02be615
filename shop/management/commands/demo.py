"""`manage.py demo`: an empty shop filled, one sale made to order, or sales that go on opening."""

import logging
import signal
import threading
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.core.validators import validate_slug
from django.db import Error as DatabaseError
from django.db import connection

from inventory.outcomes import AnswerLost, InventoryUnavailable
from shop import demo, opening
from shop.management.refusals import refuse
from shop.models import Sale

#: Seconds between two looks at whether a sale must be opened.
LOOK_SECONDS = 1.0
#: The largest number that means something here: two thousand million units or seconds.
NUMBER_MAXIMUM = 2_000_000_000

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Fill an empty shop; with --sale make one sale with one offer; with --roll keep sales opening."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--roll", action="store_true", help="keep one sale open and one opening in a minute")
        parser.add_argument("--sale", metavar="SLUG", help="make this sale")
        parser.add_argument("--quantity", type=int, default=50, metavar="N")
        parser.add_argument("--opens-in", type=int, default=0, metavar="SECONDS")
        parser.add_argument("--limit", type=int, default=1, metavar="L", help="units a buyer may have")
        parser.add_argument("--hold", type=int, default=120, metavar="SECONDS", help="time to pay")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["sale"]:
                self._one_sale(**{name: options[name] for name in ("sale", "quantity", "opens_in", "limit", "hold")})
            elif options["roll"]:
                _roll_until_stopped()
            else:
                demo.fill()
        except (InventoryUnavailable, AnswerLost, opening.NotPossible) as reason:
            raise refuse(str(reason)) from reason

    def _one_sale(self, sale: str, quantity: int, opens_in: int, limit: int, hold: int) -> None:
        numbers = {
            "--quantity": (quantity, 1),
            "--opens-in": (opens_in, 0),
            "--limit": (limit, 1),
            "--hold": (hold, 1),
        }
        for name, (value, least) in numbers.items():
            if not least <= value <= NUMBER_MAXIMUM:
                raise refuse(f"{name} must be from {least} to {NUMBER_MAXIMUM}, not {value}")
        try:
            validate_slug(sale)
        except ValidationError as error:
            raise refuse(f"--sale {sale!r}: letters, digits, - and _ make an address") from error
        if len(sale) > 60 or Sale.objects.filter(slug=sale).exists():
            raise refuse(f"--sale {sale}: too long, or there is one of that name")
        terms = demo.Terms(quantity=quantity, unit_limit=limit, hold_seconds=hold)
        made = demo.one_sale(sale, terms, opens_in_seconds=opens_in)
        self.stdout.write(f"/sales/{made.slug}/ opens at {made.opens_at:%H:%M:%S} UTC")


def _roll_until_stopped() -> None:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.is_set():
        try:
            demo.roll()
        except (DatabaseError, InventoryUnavailable, AnswerLost) as away:
            logger.warning("the next sale waits: %s", away)
            connection.close()
        stopped.wait(LOOK_SECONDS)
