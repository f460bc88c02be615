"""The matrix of `test_matrix.py`, for all that a sale can do without: no page but Pay answers otherwise."""

from collections.abc import Callable

import pytest

from tests.faults.expectations import FAULTS
from tests.faults.matrix import Complaints


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dependency", ["cache Redis", "memcached", "broker", "payment provider"])
def test_the_shop_goes_on_without_it(play: Callable[[str, str], Complaints], dependency: str, fault: str) -> None:
    """The pages of the table answer as it says and no others, none of them late; healed, all of them work again."""
    complaints = play(dependency, fault)

    assert complaints == [], "\n".join(complaints)
