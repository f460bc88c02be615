"""The inventory equals its model, whatever happens in whatever order.

EXAMPLES=300 in the gate, EXAMPLES=10000 to soak. A failure prints its steps; `--hypothesis-seed` repeats the run.
"""

import os

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
