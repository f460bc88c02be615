"""`manage.py up`: named here for `manage.py help`; manage.py starts it before Django reads any setting."""

from typing import Any

from django.core.management.base import BaseCommand

from shop.local.up import main


class Command(BaseCommand):
    help = "Run the whole sale on real servers."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        raise SystemExit(main())
