"""What came of the calls of the last seconds: a ring of buckets of one second each, and their sums.

A bucket that falls out of the ring is subtracted from the sums, so that telling and asking cost the same for any number
of calls. Not for threads: whoever owns it has a lock.
"""


class Window:
    """The last `seconds`, the running one among them. Moments are those of one clock, in seconds."""

    __slots__ = ("_buckets", "_second", "calls", "failures", "slow")

    def __init__(self, seconds: int) -> None:
        if seconds < 1:
            raise ValueError(f"a window of {seconds} seconds sees nothing")
        self._buckets = [[0, 0, 0] for _ in range(seconds)]
        self._second = 0
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """One call that ended now."""
        self.move_to(now)
        bucket = self._buckets[self._second % len(self._buckets)]
        bucket[0] += 1
        self.calls += 1
        if failed:
            bucket[1] += 1
            self.failures += 1
        if slow:
            bucket[2] += 1
            self.slow += 1

    def move_to(self, now: float) -> None:
        """Forget what is older than the window. A clock that went back changes nothing."""
        second = int(now)
        if second <= self._second:
            return
        for passed in range(max(self._second + 1, second - len(self._buckets) + 1), second + 1):
            bucket = self._buckets[passed % len(self._buckets)]
            self.calls -= bucket[0]
            self.failures -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)
        self._second = second
