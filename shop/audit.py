"""Who moved units or money by hand: a line for each, which no limit leaves out and no full queue drops.

Django's own log of the admin says the same to staff, in PostgreSQL; these lines are for whoever has lost that.
"""

import logging
import os

logger = logging.getLogger("audit.staff")


def by_staff(who: object, verb: str, what: object) -> None:
    """Somebody signed in pressed a button."""
    logger.info("%s did %s: %s", who, verb, what)


def by_command(verb: str, what: object, came_of: str = "") -> None:
    """Somebody at a terminal typed `manage.py ...`; the machine knows them by their number alone."""
    logger.info("user %d of this machine did %s: %s%s", os.getuid(), verb, what, came_of and f": {came_of}")
