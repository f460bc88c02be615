"""`manage.py resume SLUG`"""

from shop import opening
from shop.management.opening_command import OpeningCommand


class Command(OpeningCommand):
    help = "Sell again."
    verb = staticmethod(opening.resume)
