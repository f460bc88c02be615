"""The inventory equals its model."""

import os

import pytest
from hypothesis import HealthCheck, settings as profile
from hypothesis.stateful import run_state_machine_as_test
from pytest_django import Settings

from inventory import outbox, recovery
from tests.invariants.machine import InventoryMachine, failpoints
from tests.invariants.model import BATCH_EVENTS, EVENTS_MAXIMUM

EXAMPLES = int(os.environ.get("EXAMPLES", "100"))


@pytest.fixture
def small_world(transactional_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.EVENTS_WAITING_MAXIMUM = EVENTS_MAXIMUM
    settings.CLAIM_WINDOW_SECONDS = settings.EVENTS_KEPT_SECONDS = settings.PAYMENT_GRACE_SECONDS = 0
    settings.CLAIM_AFTER_SECONDS = 0
    monkeypatch.setattr(outbox, "BATCH_EVENTS", BATCH_EVENTS)
    monkeypatch.setattr("resilience.failpoint.hit", failpoints.hit)
    monkeypatch.setattr(recovery.logger, "disabled", True)


@pytest.mark.usefixtures("small_world")
def test_the_inventory_equals_its_model() -> None:
    run_state_machine_as_test(
        InventoryMachine,
        settings=profile(
            max_examples=EXAMPLES, stateful_step_count=50, deadline=None,
            suppress_health_check=list(HealthCheck), database=None,
        ),
    )
