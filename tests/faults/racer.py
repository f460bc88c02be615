"""What a process of its own does in a race: each imports this first, and so sets Django up."""

from multiprocessing.synchronize import Barrier

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from inventory import doorbell, reservations
from inventory.outcomes import Wish

#: Seconds until all are at the start line, on a slow and busy machine.
START_SECONDS = 60.0

_start_lines: list[Barrier] = []


def take_place(start_line: Barrier) -> None:
    """Once for each process."""
    doorbell.install(None)  # nobody works at the other end
    _start_lines.append(start_line)


def reserve(offer_id: int, wish: Wish) -> str:
    """The outcome of a wish that is made when the last of all processes is ready to make its own."""
    [start_line] = _start_lines
    start_line.wait(START_SECONDS)
    [answer] = reservations.reserve(offer_id, [wish])
    return str(answer.outcome)
