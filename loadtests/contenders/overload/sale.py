"""The shop's Django in two other houses than its own: open to all, and behind a door that is shut."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

without = get_wsgi_application()

from loadtests.contenders.overload.reference import full_room  # noqa: E402  in order
from shop.door import Door, Rooms  # noqa: E402  it reads rows, and there are no models before the line above

refusing = Door(without, Rooms(public=full_room(), slow=full_room(), staff=full_room()))
