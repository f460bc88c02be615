"""One broken world for all tests that need it: its servers take seconds to start."""

from collections.abc import Iterator

import pytest

from tests.faults.world import World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World() as world:
        yield world
