"""Who moved units or money by hand, and what the service gave up: a line for each, which no limit leaves out and no
full queue drops.

Django's own log of the admin says the same to staff, in PostgreSQL; these lines are for whoever has lost that.
"""

import logging
import os

logger = logging.getLogger("audit.staff")
_by_itself = logging.getLogger("audit.service")


def by_staff(who: object, verb: str, what: object) -> None:
    """Somebody signed in pressed a button."""
    logger.info("%s did %s: %s", who, verb, what)


def by_command(verb: str, what: object, came_of: str = "") -> None:
    """Somebody at a terminal typed `manage.py ...`; the machine knows them by their number alone."""
    logger.info("user %d of this machine did %s: %s%s", os.getuid(), verb, what, came_of and f": {came_of}")


def override(who: object, what_of_it: str, override: object, why: str) -> None:
    """Somebody put an override in force, or ended it."""
    logger.info("%s: override %s %s: %s", who, override, what_of_it, why)


def of_level(old: str, new: str, why: str) -> None:
    """The service gives up more of itself, or less: by itself, or because somebody forced it."""
    _by_itself.info("level %s after %s: %s", new, old, why)
