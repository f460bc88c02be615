"""The shop's Django behind the shop's door, with its levels, as `shop/wsgi.py` puts them together; no express lane."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.core.wsgi import get_wsgi_application

django = get_wsgi_application()  # from here on there are models, which those below read

from shop import level_watch  # noqa: E402  see above
from shop.door import Door, rooms  # noqa: E402  see above

application = Door(django)
level_watch.start(rooms().public.figures)
