"""The arithmetic of the capacity page, on made-up figures."""

import pytest

from loadtests import capacity

#: Each request costs nginx 6 us and Python 60; a shard holds 60 000 a second, a worker records 10 000.
MADE_UP = {
    **{f"{name}: processor": 6.0 for name in capacity.AT_NGINX.values()},
    **{f"{name}: processor": 60.0 for name in capacity.IN_PYTHON.values()},
    **{f"{kind} by nginx: an answer": 1_000.0 for kind in ("page", "state")},
    capacity.HOLDS: 60_000.0,
    capacity.RECORDED: 10_000.0,
}


def test_the_mix_is_whole() -> None:
    assert sum(capacity.MIX.values()) == pytest.approx(1)


def test_cores_follow_from_what_a_request_costs() -> None:
    """At a hundred thousand a second: nginx sees them all, Python those that are not the same for everybody."""
    in_python = 1 - capacity.MIX["page"] - capacity.MIX["state"]

    needs = capacity.needs(MADE_UP, 100_000)

    assert needs["cores for nginx"] == pytest.approx(100_000 * 6e-6 / capacity.BUSY)
    assert needs["cores for the express lane"] == pytest.approx(100_000 * in_python * 60e-6 / capacity.BUSY)
    assert needs["workers that record"] == pytest.approx(100_000 * capacity.MIX["RESERVED"] / 10_000 / capacity.BUSY)


def test_what_was_not_measured_is_said() -> None:
    """Rather than left out of the sum."""
    with pytest.raises(capacity.NotMeasured, match="drain"):
        capacity.needs({name: value for name, value in MADE_UP.items() if name != "drain"}, 1_000)


def test_the_page_has_every_kind_and_every_rate() -> None:
    text = "\n".join(capacity.page(MADE_UP, [200_000, 1_000_000]))

    assert all(f"| {kind}, " in text for kind in capacity.MIX)
    assert "| needed for | 200 000/s | 1 000 000/s |" in text
