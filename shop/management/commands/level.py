"""`manage.py level [LEVEL --for SECONDS --reason TEXT | auto]`: force the level of the service, for a while."""

import os
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from resilience.degradation import Level
from shop import overrides
from shop.away import DATABASE_AWAY
from shop.management.refusals import refuse
from shop.models import Override

AUTOMATIC = "auto"


class Command(BaseCommand):
    help = "Force the level of the service, or leave it to itself again with `auto`; alone, say what is in force."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("level", nargs="?", help=", ".join([*Level.__members__, AUTOMATIC]))
        parser.add_argument("--for", dest="seconds", type=int, help="seconds, at most a day's")
        parser.add_argument("--reason", default="", help="for whoever is called at night")

    def handle(self, *args: Any, level: str | None, seconds: int | None, reason: str, **options: Any) -> None:
        try:
            if level == AUTOMATIC:
                self._end()
            elif level is not None:
                _force(level, seconds, reason)
            self._show()
        except ValidationError as wrong:
            raise refuse(" ".join(wrong.messages)) from wrong
        except DATABASE_AWAY as away:
            raise refuse(f"PostgreSQL is away; a restart with LEVEL in the environment needs none: {away}") from away

    def _end(self) -> None:
        for override in overrides.in_force().filter(kind=Override.Kind.LEVEL):
            overrides.end(override.pk, _who())

    def _show(self) -> None:
        in_force = list(overrides.in_force().order_by("kind", "name"))
        for override in in_force:
            until = timezone.localtime(override.ends_at)
            self.stdout.write(f"{override} until {until:%H:%M:%S}, by {override.author}: {override.reason}")
        if not any(override.kind == Override.Kind.LEVEL for override in in_force):
            self.stdout.write("level automatic")


def _force(level: str, seconds: int | None, reason: str) -> None:
    if level not in Level.__members__:
        raise refuse(f"there is no level {level!r}: {', '.join([*Level.__members__, AUTOMATIC])}")
    if seconds is None or not 0 < seconds <= Override.LONGEST.total_seconds():
        longest = int(Override.LONGEST.total_seconds())
        raise refuse(f"say for how long: --for SECONDS, from 1 to {longest}")
    if not reason.strip():
        raise refuse("say why: --reason TEXT")
    ends_at = timezone.now() + timedelta(seconds=seconds)
    overrides.add(Override.Kind.LEVEL, "", level, reason=reason, author=_who(), ends_at=ends_at)


def _who() -> str:
    return f"user {os.getuid()} of this machine"
