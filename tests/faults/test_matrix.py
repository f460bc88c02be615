"""Each dependency x {dead, hung, slow, resetting, trickling} x each page: in time, as ARCHITECTURE says, for people.

Here the two stores, and that nothing is left out; in `test_matrix_others.py` all that a sale can do without.
"""

from collections.abc import Callable

import pytest

from tests.faults.expectations import DEGRADED, FAULTS
from tests.faults.matrix import Complaints
from tests.faults.pages import PAGES, routes
from tests.faults.proxied_shop import DEPENDENCIES


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dependency", ["stock Redis", "PostgreSQL"])
def test_the_shop_goes_on_without_a_store(play: Callable[[str, str], Complaints], dependency: str, fault: str) -> None:
    """The pages of the table answer as it says and no others, none of them late; healed, all of them work again."""
    complaints = play(dependency, fault)

    assert complaints == [], "\n".join(complaints)


def test_no_address_is_forgotten() -> None:
    """Whoever adds one to shop/urls.py says in tests/faults/pages.py how it answers."""
    assert {page.route for page in PAGES} >= set(routes())


def test_the_table_names_what_there_is() -> None:
    """Dependencies and pages of the table exist."""
    names = {page.name.partition(",")[0] for page in PAGES}

    assert set(DEGRADED) == set(DEPENDENCIES)
    assert {name for otherwise in DEGRADED.values() for name in otherwise} <= names
