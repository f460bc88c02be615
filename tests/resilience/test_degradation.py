"""Levels: late to come, slow to go, never restless. Ticks are driven by hand, four a second of a clock of our own."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from resilience.degradation import Current, Feature, Forced, Keeper, Level, Signs, Situation, Thresholds, current
from resilience.metrics import LEVEL

TICK_SECONDS = 0.25

CALM = Signs()
WAITING = Signs(queue_delay_p90_seconds=0.1)
BUYERS_REFUSED = Signs(queue_delay_p90_seconds=0.3, refused={1: 1.0, 2: 0.4, 3: 0.1})


class Run:
    """A keeper, its clock, and when it changed what."""

    def __init__(self, **thresholds: float) -> None:
        self.kept = Current()
        self.keeper = Keeper(Thresholds(**thresholds), keeps=self.kept, draw=lambda least, most: most)  # type: ignore[arg-type]
        self.keeper.listeners.append(lambda _old, new: self.changes.append((self.now, new.level)))
        self.now = 1_000.0
        self.changes: list[tuple[float, Level]] = []

    def see(self, signs: Signs, seconds: float, forced: Forced | None = None) -> Level:
        """The level at the end of so many seconds of it."""
        for _ in range(int(seconds / TICK_SECONDS)):
            self.keeper.tick(signs, self.now, forced)
            self.now += TICK_SECONDS
        return self.kept.level


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.mark.parametrize(
    ("signs", "level"),
    [
        (CALM, Level.NORMAL),
        (Signs(queue_delay_p90_seconds=0.049), Level.NORMAL),
        (WAITING, Level.BROWNOUT),
        (Signs(refused={0: 0.04, 1: 0.04}), Level.NORMAL),
        (Signs(refused={0: 1.0, 1: 0.9}), Level.BROWNOUT),
        (Signs(is_strained=True), Level.BROWNOUT),
        (BUYERS_REFUSED, Level.SHED),
        (Signs(refused={0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}), Level.SHED),
    ],
)
def test_what_signs_ask_for(run: Run, signs: Signs, level: Level) -> None:
    """As long as the important come in, nobody is left out unmeasured; however many are refused, nobody goes STATIC."""
    assert run.see(signs, seconds=60) == level
    assert run.changes == ([(1_000.25, level)] if level else [])


def test_one_window_is_a_hiccup(run: Run) -> None:
    """Two in a row ask for a level, and what both ask for is entered."""
    for _ in range(20):
        run.see(BUYERS_REFUSED, seconds=0.25)
        run.see(CALM, seconds=0.25)
    assert run.changes == []

    run.see(BUYERS_REFUSED, seconds=0.25)
    assert run.see(WAITING, seconds=0.25) == Level.BROWNOUT


def test_a_rise_takes_no_steps_and_a_way_back_takes_each(run: Run) -> None:
    """Down after ten seconds of calm, and the five that this process has drawn; then as long for the next step."""
    assert run.see(BUYERS_REFUSED, seconds=0.5) == Level.SHED
    began = run.now

    run.see(CALM, seconds=60)
    (_, shed), (first, brownout), (second, normal) = run.changes

    assert [shed, brownout, normal] == [Level.SHED, Level.BROWNOUT, Level.NORMAL]
    assert first - began == pytest.approx(15, abs=2 * TICK_SECONDS)
    assert second - first == pytest.approx(15, abs=2 * TICK_SECONDS)


def test_a_level_is_left_below_half_of_what_it_is_entered_at(run: Run) -> None:
    """In between it stays, for as long as that lasts."""
    run.see(WAITING, seconds=1)

    assert run.see(Signs(queue_delay_p90_seconds=0.026), seconds=120) == Level.BROWNOUT
    assert run.see(Signs(queue_delay_p90_seconds=0.024), seconds=20) == Level.NORMAL


@pytest.mark.parametrize("period_seconds", [0.5, 1, 2, 5, 8, 20, 21, 30, 60])
@pytest.mark.parametrize("high", [WAITING, BUYERS_REFUSED])
@pytest.mark.parametrize("spread_seconds", [0, 5])
def test_a_square_wave_changes_the_level_once_in_ten_seconds_at_most(
    period_seconds: float, high: Signs, spread_seconds: float
) -> None:
    """Whatever its period, whatever this process has drawn."""
    run = Run(spread_seconds=spread_seconds)
    for _ in range(int(600 / period_seconds)):
        run.see(high, period_seconds / 2)
        run.see(CALM, period_seconds / 2)

    assert all(later - earlier >= 10 for (earlier, _), (later, _) in pairwise(run.changes))


def test_a_square_wave_of_five_seconds_is_one_change_in_all(run: Run) -> None:
    """Its calm half is too short to believe in."""
    for _ in range(24):
        run.see(BUYERS_REFUSED, seconds=2.5)
        run.see(CALM, seconds=2.5)

    assert [level for _, level in run.changes] == [Level.SHED]


def test_a_rising_load_waits_for_its_second_step(run: Run) -> None:
    """Who came to BROWNOUT goes on to SHED when ten seconds are over. Until then admission refuses whom it must."""
    run.see(WAITING, seconds=1)
    run.see(BUYERS_REFUSED, seconds=20)
    (first, brownout), (second, shed) = run.changes

    assert [brownout, shed] == [Level.BROWNOUT, Level.SHED]
    assert second - first == pytest.approx(10, abs=TICK_SECONDS)


# --- Forced ----------------------------------------------------------------------------------------------------------


def test_a_forced_level_is_obeyed_at_once_and_ends_by_itself(run: Run) -> None:
    """Also just after a change, and with the same order in hand at every tick: its end is its own."""
    run.see(BUYERS_REFUSED, seconds=1)
    forced = Forced(Level.NORMAL, "we know better", until=run.now + 5)

    run.keeper.tick(BUYERS_REFUSED, run.now, forced)
    assert run.kept.situation == Situation(Level.NORMAL, "we know better", is_forced=True)

    assert run.see(BUYERS_REFUSED, 5, forced) == Level.NORMAL
    run.keeper.tick(BUYERS_REFUSED, run.now, forced)
    assert run.kept.level == Level.SHED
    assert not run.kept.situation.is_forced


def test_the_signs_are_followed_meanwhile(run: Run) -> None:
    """What a forced level hid is there when it ends, without beginning to count then."""
    run.see(BUYERS_REFUSED, 30, Forced(Level.STATIC, "drill", until=run.now + 30))
    assert [level for _, level in run.changes] == [Level.STATIC]

    assert run.see(BUYERS_REFUSED, TICK_SECONDS) == Level.SHED


def test_a_forced_level_of_which_the_reason_changes_is_told_again(run: Run) -> None:
    """The same order again is not."""
    run.see(CALM, 1, Forced(Level.SHED, "drill"))
    run.see(CALM, 1, Forced(Level.SHED, "no drill"))
    assert [level for _, level in run.changes] == [Level.SHED, Level.SHED]


# --- What may break --------------------------------------------------------------------------------------------------


def test_a_listener_that_raises_takes_nothing_with_it(run: Run) -> None:
    """The level changes, the others hear of it, and the next tick comes."""

    def breaks(_old: Situation, _new: Situation) -> None:
        raise RuntimeError("deaf")

    run.keeper.listeners.insert(0, breaks)

    assert run.see(WAITING, seconds=1) == Level.BROWNOUT
    assert [level for _, level in run.changes] == [Level.BROWNOUT]


def test_signs_that_make_no_sense_leave_the_level_where_it_is(run: Run) -> None:
    """And are no reason to end the thread that ticks."""
    run.see(WAITING, seconds=1)

    run.keeper.tick(Signs(refused={1: "many"}), run.now)  # type: ignore[dict-item]

    assert run.kept.level == Level.BROWNOUT


def test_prometheus_hears_of_it(run: Run) -> None:
    """As a number."""
    run.see(BUYERS_REFUSED, seconds=1)

    assert next(iter(LEVEL.collect())).samples[0].value == Level.SHED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("brownout_delay_seconds", 0),
        ("brownout_delay_seconds", -1),
        ("brownout_refused", 1.1),
        ("shed_refused", 0),
        ("windows", 0),
        ("hold_seconds", 0.5),
        ("spread_seconds", -1),
        ("hold_seconds", float("nan")),
    ],
)
def test_thresholds_out_of_range_are_refused(name: str, value: float) -> None:
    """With the name and the range."""
    with pytest.raises(ValueError, match=rf"{name} must be from .* to .*, not"):
        Thresholds(**{name: value})  # type: ignore[arg-type]


@pytest.fixture
def at_level() -> Iterator[Callable[[Level], None]]:
    def go(level: Level) -> None:
        current.situation = Situation(level)

    yield go
    current.situation = Situation()


def test_a_feature_is_on_until_its_level(at_level: Callable[[Level], None]) -> None:
    """At it, and not beyond."""
    extra, needed = Feature("extra", until=Level.NORMAL), Feature("needed", until=Level.SHED)
    seen = {}
    for level in Level:
        at_level(level)
        seen[level.name] = (extra.is_on(), needed.is_on())

    assert seen == {
        "NORMAL": (True, True),
        "BROWNOUT": (False, True),
        "SHED": (False, True),
        "STATIC": (False, False),
    }
