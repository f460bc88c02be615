"""When those who were refused may come back, so that they do not all come at once.

All of them together should bring no more than a fifth of what the service can do. How many they are nobody knows, but
when more come and are refused than that, they were told too short a time: it grows by the factor by which it was wrong.
"""

import threading
import time
from collections.abc import Callable

from resilience.queue_figures import Figures

#: Part of the served that may be refused meanwhile.
SHARE = 0.2
#: Seconds that are told at first, and at most: after a minute people have gone.
LEAST_SECONDS, MOST_SECONDS = 2.0, 60.0
#: The mean changes by this factor at most in a second: a second is a small sample.
STEP = 2.0
#: Seconds between two looks.
LOOK_SECONDS = 1.0


class Comeback:
    """`mean_seconds()`, of which each visitor is told another part."""

    def __init__(self, figures: Callable[[], Figures], clock: Callable[[], float] = time.monotonic) -> None:
        self._figures = figures
        self._clock = clock
        self._mean = LEAST_SECONDS
        self._looked_at = clock()
        self._looking = threading.Lock()

    def mean_seconds(self) -> float:
        """Looks at the figures of the last second at most once a second, on the thread of whoever asks."""
        if self._clock() - self._looked_at >= LOOK_SECONDS and self._looking.acquire(blocking=False):
            try:
                self._look(self._clock())
            finally:
                self._looking.release()
        return self._mean

    def _look(self, now: float) -> None:
        quiet_seconds = max(0.0, now - self._looked_at - LOOK_SECONDS)  # in which nobody was refused
        self._looked_at = now
        figures = self._figures()
        refused = sum(figures.refused)
        served = sum(figures.arrived) - refused
        wrong_by = min(STEP, max(1 / STEP, refused / (SHARE * max(1, served))))
        mean = self._mean * wrong_by * STEP**-quiet_seconds
        self._mean = min(MOST_SECONDS, max(LEAST_SECONDS, mean))
