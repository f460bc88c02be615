"""What granian serves: the express lane, the door behind it, and Django behind that."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.environ.setdefault("DATABASE_POOL", "on")  # many request threads share a few connections

from django.conf import settings
from django.core.wsgi import get_wsgi_application

django = get_wsgi_application()  # from here on there are models, which those below read

from shop import env, level_watch, wiring  # noqa: E402  see above
from shop.door import Application, Door, rooms  # noqa: E402  see above
from shop.express import ExpressLane  # noqa: E402  see above

env.forget()
door = Door(django)
express = ExpressLane(django, door)
application: Application = door if settings.LANE == "pages" else express
level_watch.start(express.lateness.figures if settings.LANE == "express" else rooms().public.figures)
wiring.share_breakers()
gc.freeze()  # what has been made by now stays: a collection that looks at all of it would hold up every request
