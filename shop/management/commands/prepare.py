"""`manage.py prepare`: what `make up` does between its servers and its processes, in one start of Python."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from shop import edge_pages, static_files


class Command(BaseCommand):
    help = "Migrate, collect static files, write the edge's own pages, and fill an empty shop with the demo."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        static_files.collect_if_changed()
        if folder := os.environ.get("EDGE_PAGES"):  # after the static files, whose names they contain
            edge_pages.write(Path(folder))
        if settings.PROFILE == "local":
            call_command("demo", stdout=self.stdout)
