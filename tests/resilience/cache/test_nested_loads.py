"""A load that reads another key: pages are made of facts, and both are cached."""

import threading
from concurrent.futures import ThreadPoolExecutor

from resilience.cache.stack import LOADS_AT_ONCE
from resilience.cache.tiered import TieredCache
from tests.crowd import PATIENCE_SECONDS, eventually


def test_loads_that_wait_for_another_key_leave_it_a_place(cache: TieredCache) -> None:
    """All places are taken by loads that need a key, whose own load is waiting for a place: it gets one of theirs."""
    all_in, may_read = threading.Barrier(LOADS_AT_ONCE + 1), threading.Event()

    def page(number: int) -> str:
        all_in.wait(PATIENCE_SECONDS)
        may_read.wait(PATIENCE_SECONDS)
        return f"page {number} of {cache.get_or_set('facts', lambda: 'facts', 10)}"

    with ThreadPoolExecutor(LOADS_AT_ONCE + 1) as readers:
        pages = [
            readers.submit(cache.get_or_set, f"page:{number}", lambda number=number: page(number), 10)
            for number in range(LOADS_AT_ONCE)
        ]
        all_in.wait(PATIENCE_SECONDS)
        facts = readers.submit(cache.get_or_set, "facts", lambda: "facts", 10)
        eventually(lambda: "facts" in cache.stack.flights._under_way)
        may_read.set()

        assert [each.result() for each in pages] == [f"page {number} of facts" for number in range(LOADS_AT_ONCE)]
        assert facts.result() == "facts"
    assert cache.tally("facts")["loads"] == 1
