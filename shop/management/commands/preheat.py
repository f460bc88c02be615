"""`manage.py preheat SLUG`"""

from shop import preheating
from shop.management.opening_command import OpeningCommand


class Command(OpeningCommand):
    help = "Put the stock of a sale on the shelf of Redis and its pages into the caches."
    verb = staticmethod(preheating.run)
