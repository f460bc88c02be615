"""The record of what was done: it grows, nobody changes it, and the service itself writes into it from the side."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.utils import timezone
from pytest_django import Settings

from resilience import breaker, degradation
from resilience.breaker import Breaker
from resilience.degradation import Level, Situation
from shop import level_watch, overrides, sale_events
from shop.models import Sale, SaleEvent
from shop.sale_events import Scribe
from tests.crowd import at_once, eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scribe(monkeypatch: pytest.MonkeyPatch) -> Scribe:
    """One that nobody has started."""
    fresh = Scribe()
    monkeypatch.setattr(sale_events, "scribe", fresh)
    return fresh


def written() -> list[tuple[str, str, str]]:
    return list(SaleEvent.objects.order_by("pk").values_list("act", "what", "by"))


# --- It only grows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda: SaleEvent.objects.update(by="somebody else"),
        lambda: SaleEvent.objects.all().delete(),
        lambda: SaleEvent.objects.get().delete(),
        lambda: SaleEvent.objects.get().save(),
    ],
)
def test_nobody_changes_a_line(change: Callable[[], Any]) -> None:
    """PostgreSQL refuses, whichever way the ORM goes."""
    sale_events.by_staff("ann", "pause", "summer")

    with pytest.raises(IntegrityError, match="never changed"):
        change()

    assert written() == [("pause", "", "ann")]


def test_what_has_one_key_is_one_line() -> None:
    """Ten threads write the same act: one of them hears that it did."""
    key = uuid.uuid4()

    won = at_once(range(10), lambda n: sale_events.by_staff(f"ann {n}", "restock", "summer", key=key))

    assert won.count(True) == 1
    assert SaleEvent.objects.count() == 1


def test_whatever_is_typed_fits(sale: Sale) -> None:
    """Long texts are cut, and marks, markup and letters of four bytes are kept as they are."""
    sale_events.by_staff("\u202eann <b>𝒳", "restock", sale.slug, "x" * 1_000, "y" * 1_000)

    line = SaleEvent.objects.get()
    assert (line.by, len(line.what), len(line.detail)) == ("\u202eann <b>𝒳", 100, 500)


# --- Commands and overrides ------------------------------------------------------------------------------------------


def test_commands_are_written_down(sale: Sale) -> None:
    """With the number of whoever typed them."""
    call_command("pause", sale.slug)
    call_command("resume", sale.slug)

    assert [(act, by.split(" of ")[0].split()[0]) for act, _, by in written()] == [
        ("pause", "user"),
        ("resume", "user"),
    ]


def test_overrides_are_written_down() -> None:
    """That they began and ended, by whom and why."""
    said = overrides.add(
        "level", "", "SHED", reason="drill", author="ann", ends_at=timezone.now() + timedelta(minutes=1)
    )
    overrides.end(said.pk, "bob")

    assert written() == [("override", "level SHED", "ann"), ("override", "level SHED", "bob")]
    overrides.notice.post([], 1)


# --- By itself -------------------------------------------------------------------------------------------------------


@pytest.fixture
def trial() -> Breaker:
    """A breaker of which nobody else hears."""
    return Breaker("trial")


def test_a_breaker_that_opens_and_closes_is_two_lines(scribe: Scribe, trial: Breaker) -> None:
    """That it tries in between is none, nor that it opens again after a trial that failed."""
    for state in (breaker.CLOSED, breaker.OPEN, breaker.HALF_OPEN, breaker.OPEN, breaker.HALF_OPEN, breaker.CLOSED):
        scribe.hear(trial, state)

    assert scribe.write_down() == 2
    assert written() == [("breaker", "trial", ""), ("breaker", "trial", "")]
    assert [line.detail.split()[0] for line in SaleEvent.objects.order_by("pk")] == ["open", "closed"]


def test_a_level_that_changes_is_a_line(scribe: Scribe, settings: Settings) -> None:
    """With the level before and the reason; the same again is none."""
    settings.LEVEL = "SHED"
    watch = level_watch.Watch()
    try:
        watch.tick(0.0)
        watch.tick(1.0)
    finally:
        degradation.current.situation = Situation(Level.NORMAL)

    assert scribe.write_down() == 1
    line = SaleEvent.objects.get()
    assert (line.act, line.what, line.by) == ("level", "SHED", "")
    assert line.detail.startswith("after NORMAL: forced: LEVEL is set in the environment (process ")


def test_lines_wait_while_postgresql_is_away(scribe: Scribe, database_away: Callable[..., None]) -> None:
    """In their order, with the moment when it happened; of too many, the oldest go."""
    for number in range(sale_events.WAITING_MAXIMUM + 5):
        scribe.note("level", str(number))
    noted = timezone.now()

    database_away()
    assert scribe.write_down() == 0
    database_away(False)

    assert scribe.write_down() == sale_events.WAITING_MAXIMUM
    lines = SaleEvent.objects.order_by("pk")
    assert [lines[0].what, lines[1].what] == ["5", "6"]
    assert all(line.at <= noted for line in lines[:3])


def test_whoever_causes_a_line_does_not_wait_for_postgresql(
    scribe: Scribe, trial: Breaker, frozen: Callable[[str], Any]
) -> None:
    """Noting is done while PostgreSQL hangs; the side thread writes when it is back."""
    scribe.start()
    try:
        with frozen("postgresql"):
            hearing = threading.Thread(target=scribe.hear, args=[trial, breaker.OPEN])
            hearing.start()
            hearing.join(1.0)
            assert not hearing.is_alive()
        eventually(lambda: SaleEvent.objects.filter(act="breaker", what="trial").exists())
    finally:
        scribe.stop()
