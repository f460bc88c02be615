"""`manage.py shoppers N --out FILE`: people for a load test, already signed in."""

from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser

from shop import buyers
from shop.management.refusals import refuse

#: Shoppers of one call; a million rows take a minute.
SHOPPERS_MAXIMUM = 1_000_000
#: Rows of one INSERT.
ROWS_AT_ONCE = 5_000


class Command(BaseCommand):
    help = "Make N shoppers and write one `buyer` cookie value a line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int, metavar="N")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")

    def handle(self, *args: Any, count: int, out: Path, **options: Any) -> None:
        if not 1 <= count <= SHOPPERS_MAXIMUM:
            raise refuse(f"N must be from 1 to {SHOPPERS_MAXIMUM}, not {count}")
        try:
            with out.open("w") as file:
                out.chmod(0o600)  # whoever has a cookie is that shopper
                for pk in _shopper_ids(count):
                    file.write(buyers.cookie_for(pk) + "\n")
        except OSError as error:
            raise refuse(f"{out} cannot be written: {error.strerror}") from error
        self.stdout.write(f"{count} shoppers, one cookie a line, in {out}")


def _shopper_ids(count: int) -> list[int]:
    """The ids of load-1 ... load-N: those who are there from an earlier run, and the rest made now."""
    names = [f"load-{number}" for number in range(1, count + 1)]
    nobody_signs_in = "!"  # a password that no hash matches
    User.objects.bulk_create(
        (User(username=name, password=nobody_signs_in) for name in names),
        batch_size=ROWS_AT_ONCE,
        ignore_conflicts=True,
    )
    return list(User.objects.filter(username__in=names).order_by("pk").values_list("pk", flat=True))
