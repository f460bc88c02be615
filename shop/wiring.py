"""The place where the parts meet: what inventory needs from the outside is handed to it here."""

from inventory import doorbell
from shop import celery

#: Seconds after which a ring is worth nothing: the beat has rung since.
RING_EXPIRES = 5
#: Doorbell -> Celery task and queue.
_TASKS = {doorbell.DRAIN: ("shop.drain", "drain"), doorbell.SETTLE: ("shop.settle", "effects")}


def connect() -> None:
    doorbell.install(_publish)


def _publish(name: str) -> None:
    task, queue = _TASKS[name]
    celery.app.send_task(task, queue=queue, expires=RING_EXPIRES, retry=False)
