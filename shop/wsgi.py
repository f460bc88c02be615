"""The door: the WSGI application that granian serves."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.environ.setdefault("DATABASE_POOL", "on")  # many request threads share a few connections

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from shop import wiring  # noqa: E402  it reads models, and there are none before the line above

wiring.share_breakers()
