"""How much a run of the fault tests tries, and the seed of all its choices: SEED=7 repeats the run that printed 7."""

import os

#: Chosen by `tests.servers` when nobody names one.
SEED = int(os.environ["SEED"])


def rounds(name: str, default: int) -> int:
    """CRASH_ROUNDS and RACE_ROUNDS for each of them, ROUNDS for all, in the environment."""
    return int(os.environ.get(name) or os.environ.get("ROUNDS") or default)
