"""Somebody dies or hangs at every step of a sale: no unit is sold twice, and no buyer who was told `yours` is forgotten."""

import pytest

from tests.faults.round import PLOTS, Round
from tests.faults.sizes import SEED, rounds
from tests.faults.world import World


@pytest.mark.parametrize("number", range(rounds("CRASH_ROUNDS", 3)))
def test_a_crash_at_any_step_breaks_no_promise(world: World, number: int) -> None:
    """Under load a worker, staff, shoppers or a server are killed or stopped; healed, every promise is kept."""
    seed = SEED + number
    played = Round(world, seed, PLOTS[seed % len(PLOTS)])

    wrong = played.play()

    assert wrong == [], f"SEED={seed} CRASH_ROUNDS=1 repeats it: {played}"
