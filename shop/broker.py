"""What kombu's Redis transport has to be taught for a worker to outlive its broker."""

import logging
from typing import Any

from kombu.transport import redis

logger = logging.getLogger(__name__)


class PatientQoS(redis.QoS):
    """kombu puts what a worker had taken and not begun back into the queues when its connection ends, also when it ends
    because the broker died: then there is nothing to put it into, and the error (`'NoneType' object has no attribute
    'hostname'`) makes the worker stop for good without ending its process.
    """

    def restore_unacked_once(self, *arguments: Any, **options: Any) -> None:
        """What cannot be put back is delivered again by the broker, if it still knows it; the beat rings anyway."""
        try:
            super().restore_unacked_once(*arguments, **options)
        except Exception as error:
            logger.warning("the broker is gone, and takes back nothing: %r", error)


def install() -> None:
    redis.Channel.QoS = PatientQoS
