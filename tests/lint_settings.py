"""Settings for `make lint`: mypy's Django plugin reads them, and a fresh clone has no servers and no keys."""

import os

_NOBODY = {
    "PROFILE": "test",
    "DATABASE_URL": "dbname=nobody",
    **dict.fromkeys(("STOCK_REDIS_URL", "CACHE_REDIS_URL", "BROKER_URL"), "redis://nobody"),
    **dict.fromkeys(
        ("SECRET_KEY", "BUYER_KEYS", "TICKET_KEYS", "RECEIPT_KEYS", "PROVIDER_SECRET"),
        "abcdefghijklmnopqrstuvwxyz-0123456789-for-lint-only",
    ),
}
for _name, _value in _NOBODY.items():
    os.environ.setdefault(_name, _value)

from shop.settings import *  # noqa: E402, F403
