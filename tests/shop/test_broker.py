"""A worker's connection to a broker that died ends without harm: the worker makes a new one and works on."""

import logging

import pytest
from django.conf import settings
from kombu import Connection

from shop.broker import PatientQoS

QUEUE = "test-broker"


def test_what_was_taken_is_lost_with_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    """The channel closes, though it has a message and nobody to give it back to; it says so."""
    with Connection(settings.CELERY_BROKER_URL, transport_options={"global_keyprefix": "test:"}) as connection:
        channel = connection.channel()
        queue = connection.SimpleQueue(QUEUE)
        queue.put({"ring": 1})
        taken = channel.basic_get(QUEUE)
        assert taken is not None
        assert isinstance(channel.qos, PatientQoS)
        channel.qos.append(taken, taken.delivery_tag)

        channel.connection.client = None  # as kombu leaves it when the broker is gone
        channel._disconnect_pools()
        with caplog.at_level(logging.WARNING, "shop.broker"):
            channel.close()

    assert channel.closed
    assert "takes back nothing" in caplog.text
