"""`manage.py pause SLUG`"""

from shop import opening
from shop.management.opening_command import OpeningCommand


class Command(OpeningCommand):
    help = "Stop selling at once; holds and orders go on."
    verb = staticmethod(opening.pause)
