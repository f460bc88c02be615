#!/usr/bin/env python
"""Every command starts here."""

import os
import sys


def main() -> int:
    if sys.argv[1:2] == ["up"]:  # starts the servers that settings speak of, so it cannot read settings first
        from shop.local.up import main as up

        return up()

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from shop.env import BadSetting

    try:
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except BadSetting as bad:
        print(bad, file=sys.stderr)  # noqa: T201 - the one clear line a person needs, before logging exists
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
