"""The sums of the last seconds are those of the calls that ended in them."""

import random

import pytest

from resilience.window import Window


def test_it_counts_calls_failures_and_slow_ones_apart() -> None:
    window = Window(10)

    window.add(5.0, failed=True, slow=False)
    window.add(5.1, failed=False, slow=True)
    window.add(5.2, failed=True, slow=True)
    window.add(6.0, failed=False, slow=False)

    assert (window.calls, window.failures, window.slow) == (4, 2, 2)


def test_what_is_older_than_the_window_is_forgotten_second_by_second() -> None:
    window = Window(3)
    for second in (1, 2, 3):
        window.add(float(second), failed=True, slow=True)

    left = []
    for now in (3.9, 4.0, 5.0, 6.0, 7.0):
        window.move_to(now)
        left.append((window.calls, window.failures, window.slow))

    assert left == [(3, 3, 3), (2, 2, 2), (1, 1, 1), (0, 0, 0), (0, 0, 0)]


def test_a_long_silence_empties_it_at_once() -> None:
    window = Window(10)
    window.add(1.0, failed=True, slow=True)

    window.move_to(1e9)

    assert (window.calls, window.failures, window.slow) == (0, 0, 0)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    window = Window(3)
    window.add(10.0, failed=True, slow=False)

    window.add(8.0, failed=False, slow=False)

    assert (window.calls, window.failures) == (2, 1)


def test_its_sums_are_those_of_a_list_of_all_calls() -> None:
    """Ten thousand calls at random moments; after each, the sums are counted anew from the list."""
    chance, window, now, told = random.Random(17), Window(5), 100.0, []
    for _ in range(10_000):
        now += chance.choice((0, 0.01, 0.3, 1, 7))
        failed, slow = chance.random() < 0.5, chance.random() < 0.2
        window.add(now, failed=failed, slow=slow)
        told = [call for call in told if call[0] > int(now) - 5] + [(int(now), failed, slow)]

        assert window.calls == len(told)
        assert window.failures == sum(call[1] for call in told)
        assert window.slow == sum(call[2] for call in told)


def test_a_window_of_no_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="0 seconds"):
        Window(0)
