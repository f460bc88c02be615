"""Sales and people for the tests, on real servers, and clean ones for every test."""

import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client
from django.utils import timezone, translation

from inventory import _commit
from inventory.stock import Shelf
from resilience import breaker, quiet_logging
from resilience.clock import now_ms
from resilience.log_writer import QueuedHandler
from shop import buyers, opening
from shop.local.servers import Running
from shop.models import Offer, Product, Sale
from tests.crowd import eventually

_names = itertools.count(1)

#: A window that every test fits in, on both sides.
AN_HOUR = timedelta(hours=1)


@pytest.fixture
def stock_redis() -> redis.Redis:
    """A connection of the test's own, to look behind the curtain."""
    return redis.Redis.from_url(settings.STOCK_REDIS_URL, decode_responses=True)


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns of a missing one with every client that a test makes."""
    Path(settings.STATIC_ROOT).mkdir(exist_ok=True)


@pytest.fixture(scope="session", autouse=True)
def every_line() -> None:
    """Tests that look for a line find it, however many of its kind others have caused; pytest shows those of a failure,
    so that no thread of ours writes them past it."""
    quiet_logging.install(None)
    for handler in list(logging.root.handlers):
        if isinstance(handler, QueuedHandler):
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def bus_ends_before_its_redis() -> Iterator[None]:
    """Its listener would tell the end of the run as an outage."""
    yield
    cache: Any = caches["default"]
    cache.stack.bus.end()


@pytest.fixture(autouse=True)
def clean_servers(stock_redis: redis.Redis) -> None:
    """No key of an earlier test, in Redis or in a cache, and no breaker that an earlier test has opened."""
    for each in breaker.all_of_this_process():
        each.start_over()
    stock_redis.flushall()
    cache: Any = caches["default"]
    eventually(lambda: not cache.stack.is_refreshing)
    cache.clear()


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """A request leaves its language with its thread; the next test says nothing of languages and means English."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def second_tries_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a young process: what earlier tests have lost is not held against this one."""
    monkeypatch.setattr(_commit, "second_tries", _commit._budget())


@pytest.fixture
def frozen(servers: Running) -> Callable[[str], AbstractContextManager[None]]:
    """`with frozen("redis-stock"):` that server hangs: it takes connections and answers nothing."""

    @contextmanager
    def freeze(name: str) -> Iterator[None]:
        os.kill(servers.pid(name), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(servers.pid(name), signal.SIGCONT)

    return freeze


@pytest.fixture
def make_sale(transactional_db: None) -> Callable[..., Sale]:
    """A scheduled sale of one offer, open now unless told otherwise."""

    def make(
        *, quantity: int = 20, limit: int = 1, hold: int = 60, opens_in: timedelta = -AN_HOUR, slug: str = ""
    ) -> Sale:
        number = next(_names)
        product = Product.objects.create(title=f"Lamp {number}", list_price_minor=20_000)
        opens_at = timezone.now() + opens_in
        sale = Sale.objects.create(
            slug=slug or f"sale-{number}", title=f"Sale {number}", opens_at=opens_at, closes_at=opens_at + 3 * AN_HOUR
        )
        terms = {"quantity": quantity, "unit_limit": limit, "hold_seconds": hold}
        opening.add_offer(sale, product, price_minor=9_900, **terms)
        opening.schedule(sale)
        return sale

    return make


@pytest.fixture
def sale(make_sale: Callable[..., Sale]) -> Sale:
    """Twenty units, one for each buyer, open now."""
    return make_sale()


@pytest.fixture
def offer(sale: Sale) -> Offer:
    return sale.offers.get()


@pytest.fixture
def shelf() -> Shelf:
    """Open now and for an hour."""
    return Shelf("open", now_ms() - 1_000, now_ms() + 3_600_000)


class Shopper(Client):
    """A browser in which somebody is signed in, by the buyer cookie alone."""

    def __init__(self, user: User, **defaults: Any) -> None:
        super().__init__(**defaults)
        self.user = user
        self.cookies[buyers.COOKIE] = buyers.cookie_for(user.pk)

    def send(self, url: str, **fields: Any) -> Any:
        """POST as the page's script does."""
        return self.post(url, fields, content_type="application/json", headers={"accept": "application/json"})


@pytest.fixture
def make_shopper(transactional_db: None) -> Callable[[], Shopper]:
    def make() -> Shopper:
        return Shopper(User.objects.create(username=f"shopper-{next(_names)}"))

    return make


@pytest.fixture
def shopper(make_shopper: Callable[[], Shopper]) -> Shopper:
    return make_shopper()
