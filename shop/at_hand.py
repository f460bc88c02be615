"""Settings that each hot request reads. Django's `settings` takes half a microsecond for one; an attribute takes none.

A test that overrides one is heard of by Django's signal; nobody else changes them while a process runs.
"""

from ipaddress import IPv4Network, IPv6Network

from django.conf import settings
from django.core.signals import setting_changed


class AtHand:
    BUYER_COOKIE_SECONDS: int
    HTTPS: bool
    RATE_LIMIT_EXEMPT: list[IPv4Network | IPv6Network]
    TICKET_SECONDS: int
    TRUSTED_PROXIES: int

    def __init__(self) -> None:
        self.read()

    def read(self, **_: object) -> None:
        for name in AtHand.__annotations__:
            setattr(self, name, getattr(settings, name))


at_hand = AtHand()
setting_changed.connect(at_hand.read)
