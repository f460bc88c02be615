"""A broker that hangs holds up the post, and nobody who posts."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from resilience import deadline
from shop import wiring
from shop.postman import LETTERS_MAXIMUM, Postman
from tests.crowd import PATIENCE_SECONDS, eventually

Freeze = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def hanging() -> threading.Event:
    """Set when what hangs may go on."""
    return threading.Event()


def test_what_is_posted_is_sent_in_its_order() -> None:
    sent: list[int] = []
    post = Postman()
    for number in range(10):
        post.post(lambda number=number: sent.append(number))

    eventually(lambda: len(sent) == 10)
    assert sent == list(range(10))


def test_one_that_hangs_holds_nobody_who_posts_or_delivers(hanging: threading.Event) -> None:
    """All come back while it hangs; who waits for a result hears that there is none, and his letter is withdrawn."""
    post, sent = Postman(), []
    first = post.post(lambda: hanging.wait(PATIENCE_SECONDS))
    eventually(first.running)

    post.post(lambda: sent.append("posted"))
    with deadline.within(0.05), pytest.raises(OperationalError):
        post.deliver(lambda: sent.append("withdrawn"))
    assert not first.done()

    hanging.set()
    post.deliver(lambda: sent.append("delivered"))
    assert sent == ["posted", "delivered"]


def test_what_waits_is_bounded(hanging: threading.Event) -> None:
    post = Postman()
    eventually(post.post(lambda: hanging.wait(PATIENCE_SECONDS)).running)
    for _ in range(LETTERS_MAXIMUM):
        post.post(lambda: None)

    with pytest.raises(OperationalError, match="wait for the broker already"):
        post.post(lambda: None)
    hanging.set()


def test_a_letter_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    post = Postman()

    with pytest.raises(ZeroDivisionError):
        post.deliver(lambda: 1 / 0)

    post.deliver(lambda: None)


def test_an_invalidation_is_posted_while_the_broker_stands_still(frozen: Freeze) -> None:
    """What a cache tier refused comes back to its caller at once, and is sent when the broker goes on."""
    with Connection(settings.CELERY_BROKER_URL) as connection:
        before = waiting_in(connection)
    with ExitStack() as broker:
        broker.enter_context(frozen("redis-broker"))
        wiring._invalidate_later(["facts:postman"])
        wiring._invalidate_later(["facts:postman"])  # the same keys: one message stands for both
        broker.close()

    with Connection(settings.CELERY_BROKER_URL) as connection:
        eventually(lambda: waiting_in(connection) == before + 1)


def waiting_in(connection: Connection) -> int:
    return int(connection.default_channel.client.llen(settings.CELERY_TASK_DEFAULT_QUEUE))
