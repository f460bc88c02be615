#!/usr/bin/env python
"""Every command starts here."""

import os
import sys


def main() -> int:
    if sys.argv[1:2] == ["up"]:  # starts the servers that settings speak of, so it cannot read settings first
        from shop.local.up import main as up

        return up()

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from shop.env import BadSetting

    try:
        execute_from_command_line(sys.argv)
    except BadSetting as bad:
        return refuse(str(bad))
    except OperationalError as away:
        return refuse(f"PostgreSQL cannot be asked: {str(away).splitlines()[0]}")
    return 0


def refuse(reason: str) -> int:
    """One clear line for a person, and the exit status that says: change something first."""
    print(reason, file=sys.stderr)  # noqa: T201 - there may be no logging yet
    return 2


if __name__ == "__main__":
    sys.exit(main())
