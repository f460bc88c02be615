"""Somebody dies or hangs at each step of a sale: nothing is sold twice, and nobody who was told `yours` is forgotten.

SEED=7 CRASH_ROUNDS=1 .venv/bin/python -m pytest tests/faults/test_crashes.py     the round that printed 7
CRASH_ROUNDS=500 ...                                                              for an evening
"""

import pytest

from tests.faults.script import drawn
from tests.faults.sizes import SEED, rounds
from tests.faults.stage import Stage
from tests.faults.world import World


@pytest.mark.parametrize("seed", range(SEED, SEED + rounds("CRASH_ROUNDS", 3)))
def test_a_crash_at_any_step_breaks_no_promise(world: World, seed: int) -> None:
    """Under load a worker, staff, shoppers or a server are killed or stopped; healed, every promise is kept."""
    script = drawn(seed)

    wrong = Stage(world, script).play()

    assert wrong == [], f"SEED={seed} CRASH_ROUNDS=1 repeats {script}"
