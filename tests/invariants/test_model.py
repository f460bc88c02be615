"""The inventory equals its model, whatever happens in whatever order.

EXAMPLES=300 in the gate, EXAMPLES=10000 to soak. A failure prints its steps; `--hypothesis-seed` repeats the run.
"""

import os
import signal
from typing import Any

import pytest
from hypothesis import settings as profile
from hypothesis.stateful import run_state_machine_as_test

from tests.invariants.machine import PROFILE, InventoryMachine

#: Each of up to 50 steps, and about 200 ms on an idle machine.
EXAMPLES = int(os.environ.get("EXAMPLES", "100"))


@pytest.mark.usefixtures("small_world")
def test_the_inventory_equals_its_model() -> None:
    """Same answers, same rows, same keys after each step; in the end everything arrives and nothing is wrong."""
    run_state_machine_as_test(InventoryMachine, settings=profile(PROFILE, max_examples=EXAMPLES))


#: Short ways to mistakes: those that the machine found in the inventory, and some that it would need luck to find.
STORIES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "a receipt is shown for a hold that was lost twice": [
        ("lose", {"which": 0, "what": "everything", "polls": 0}),
        ("watch", {}),
        ("buyers_show_receipts", {"which": 0, "most": 1, "latest": False}),
        ("watch", {}),
        ("lose", {"which": 0, "what": "everything", "polls": 1}),
        ("watch", {}),
    ],
    "a stream that was lost comes back by the next sale": [
        ("lose", {"which": 0, "what": "events", "polls": 0}),
        ("a_buyer_comes", {"which": 0, "number": 2}),
        ("tidy", {}),
        ("watch", {}),
    ],
    "units are taken when none is free": [
        ("change", {"which": 0, "units": -20, "dies_at": ""}),
        ("change", {"which": 0, "units": -1, "dies_at": ""}),
    ],
    "a limit is lowered behind a hold": [
        ("a_buyer_comes", {"which": 0, "number": 4}),
        ("change_limit", {"which": 0, "limit": 1}),
        ("drain", {"which": 0}),
    ],
    "the last units are wished for in one batch": [
        ("buyers_come", {"which": 0, "batch": [(2, "honest", ""), (7, "honest", "")]}),
    ],
    "a dead worker has read what is not recorded": [
        ("a_worker_drains", {"which": 0, "reader": "a", "claims": True, "dies_at": "drain.read"}),
        ("tidy", {}),
    ],
    "an effect comes while the counters are lost": [
        ("drain", {"which": 0}),
        ("end", {"which": 0, "pick": 0, "state": "confirmed", "times": 1}),
        ("lose", {"which": 0, "what": "units", "polls": 0}),
        ("settle", {"twice": False}),
    ],
    "two changes are left behind": [
        ("change", {"which": 0, "units": -20, "dies_at": "change.asked"}),
        ("change", {"which": 0, "units": 3, "dies_at": "change.asked"}),
        ("tidy", {}),
    ],
    "Redis crashes and comes back while a worker is at it": [
        ("a_worker_drains", {"which": 0, "reader": "a", "claims": True, "dies_at": "drain.committed"}),
        ("a_buyer_comes", {"which": 0, "number": 2}),
        ("redis_restarts", {"ending": signal.SIGKILL}),
        ("a_worker_drains", {"which": 0, "reader": "b", "claims": False, "dies_at": ""}),
        ("end", {"which": 0, "pick": 1, "state": "released", "times": 1}),
        ("redis_restarts", {"ending": signal.SIGTERM}),
        ("settle", {"twice": True}),
        ("watch", {}),
    ],
    "units are taken while Redis is being filled anew": [
        ("lose", {"which": 0, "what": "events", "polls": 1}),
        ("change", {"which": 0, "units": -1, "dies_at": ""}),
        ("watch", {}),
        ("tidy", {}),
    ],
    "tickets are used again behind a closed door": [
        ("show", {"which": 0, "state": "paused", "window": "open", "number": 1}),
        ("show", {"which": 0, "state": "open", "window": "over", "number": 1}),
        ("buyers_come", {"which": 0, "batch": [(1, "other buyer", ""), (1, "other units", "")]}),
    ],
    "nobody buys behind a closed door, unless the money was late": [
        ("show", {"which": 0, "state": "open", "window": "before", "number": 2}),
        ("show", {"which": 0, "state": "open", "window": "over", "number": 2}),
        ("buyers_come", {"which": 0, "batch": [(3, "late", "")]}),
        ("show", {"which": 0, "state": "paused", "window": "open", "number": 5}),
        ("buyers_come", {"which": 0, "batch": [(5, "late", "")]}),
    ],
    "one buyer comes in one batch after another": [
        ("buyers_come", {"which": 0, "batch": [(10, "honest", ""), (10, "honest", ""), (1, "honest", "")]}),
        ("a_buyer_comes", {"which": 0, "number": 19}),  # three units: over the limit, and more than there are
        ("end", {"which": 0, "pick": 0, "state": "released", "times": 1}),
        ("buyers_come", {"which": 0, "batch": [(28, "honest", ""), (37, "honest", "")]}),
    ],
    "others come beside a buyer who has something": [
        ("change", {"which": 0, "units": 3, "dies_at": ""}),
        ("buyers_come", {"which": 0, "batch": [(1, "honest", ""), (2, "honest", ""), (10, "honest", "")]}),
    ],
    "a number is what Lua takes for one": [
        ("buyers_come", {"which": 0, "batch": [(2, kind, "1e3"), (2, kind, "0x1"), (2, kind, " 1"), (2, kind, "1.0")]})
        for kind in ("bad units", "bad buyer")
    ],
    "as many events wait as may": [
        ("change", {"which": 0, "units": 20, "dies_at": ""}),
        ("buyers_come", {"which": 0, "batch": [(number, "honest", "") for number in (0, 3, 5, 6)]}),
        ("buyers_come", {"which": 0, "batch": [(number, "honest", "") for number in (8, 10, 11, 13)]}),
        ("buyers_come", {"which": 0, "batch": [(number, "honest", "") for number in (15, 16, 18, 20)]}),
    ],
    "a hold is paid for": [
        ("drain", {"which": 0}),
        ("end", {"which": 0, "pick": 0, "state": "confirmed", "times": 1}),
        ("settle", {"twice": True}),
    ],
    "a slow worker tells of a hold that has ended": [
        ("drain", {"which": 0}),
        ("end", {"which": 0, "pick": 0, "state": "released", "times": 1}),
        ("settle", {"twice": False}),
        ("a_slow_worker_tells", {"which": 0, "pick": 0}),
    ],
    "a change is left behind when it was made": [
        ("change", {"which": 0, "units": 3, "dies_at": "change.moved"}),
        ("tidy", {}),
    ],
    "a change is left behind, and Redis loses what it made": [
        ("change", {"which": 0, "units": 3, "dies_at": "change.moved"}),
        ("lose", {"which": 0, "what": "everything", "polls": 0}),
        ("watch", {}),
        ("tidy", {}),
    ],
    "a lost offer is shown": [
        ("lose", {"which": 0, "what": "units", "polls": 0}),
        ("show", {"which": 0, "state": "open", "window": "open", "number": 2}),
        ("watch", {}),
    ],
}


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("story", STORIES)
def test_a_story_that_needs_luck(story: str) -> None:
    """The machine's own steps, in an order that it may not think of today."""
    play(story)


def play(story: str) -> None:
    """Its steps, on an offer of three units of which one is held."""
    machine = InventoryMachine()
    try:
        machine.put_on_the_shelf(terms=[(3, 4)], batch=[(1, "honest", "")])
        for step, drawn in STORIES[story]:
            getattr(machine, step)(**drawn)
            machine.both_are_equal()
    finally:
        machine.teardown()
