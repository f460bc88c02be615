"""The shop's Django in three houses: open to all, behind the shop's own door, and behind a door that is shut."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

from loadtests.contenders.overload.reference import full_room
from shop.door import Door, Rooms

without = get_wsgi_application()
within = Door(without)
refusing = Door(without, Rooms(public=full_room(), slow=full_room(), staff=full_room()))
