"""`manage.py close SLUG`"""

from shop import opening
from shop.management.opening_command import OpeningCommand


class Command(OpeningCommand):
    help = "End a sale for good; holds can still be paid."
    verb = staticmethod(opening.close)
