"""The judge of a drill, on an honest sale in which something was broken; and the table that it judges by."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from loadtests.drills.faults import nothing
from loadtests.drills.judging import Blown, result
from loadtests.drills.table import DRILLS, Drill
from loadtests.evidence import Evidence
from shop.local.tools import CHECKOUT
from tests.loadtests.a_sale import ANN, DAN, EVE, T0, honest_sale, record

#: The blow falls between the sales to Bob and to Dan.
BLOWN = Blown(T0 + 1, T0 + 5)
#: What clicks may hear, until a second after it was healed.
DRILL = Drill("a drill", nothing(), "", 4, goes_on=("page", "poll"), hears=frozenset({"PAUSED"}), back_seconds=1.5)


def misses(evidence: Evidence, **terms: object) -> str:
    return "; ".join(result(replace(DRILL, **terms), evidence, BLOWN).misses)  # type: ignore[arg-type]


def sale_with_clicks(*words: str, at: float = 3.0, status: int = 503) -> Evidence:
    """And people who hear these words meanwhile."""
    evidence = honest_sale()
    evidence.records += [record("buy", EVE, at, status, word) for word in words]
    return evidence


def test_what_the_table_says_passes() -> None:
    judged = result(DRILL, sale_with_clicks("PAUSED", "PAUSED"), BLOWN)

    assert judged.misses == []
    assert judged.heard == {"PAUSED": 2, "SOLD_OUT": 1}
    assert judged.back_seconds == pytest.approx(1.01)


def test_a_word_that_the_table_does_not_allow_is_a_miss() -> None:
    assert misses(sale_with_clicks("BUSY", "BUSY")) == "clicks heard 2 BUSY"


def test_an_allowed_word_is_a_miss_when_all_should_be_well_again() -> None:
    assert misses(sale_with_clicks("PAUSED", "PAUSED", at=7.5)) == "clicks heard 2 PAUSED"


def test_what_goes_on_and_does_not_is_a_miss() -> None:
    evidence = honest_sale()
    evidence.records += [record("page", ANN, 2.0 + at / 10, 503, "BUSY") for at in range(5)]

    assert misses(evidence) == "page did not go on: 0 of 5 were served"


def test_slow_clicks_are_a_miss() -> None:
    evidence = honest_sale()
    evidence.records += [record("buy", EVE, 2.0, 503, "PAUSED")._replace(done=T0 + 3) for _ in range(9)]

    assert misses(evidence) == "clicks were answered within 1000 ms at their p90, not within 300"


def test_who_does_not_come_back_is_a_miss() -> None:
    """Too late is a miss, and never is another."""
    evidence = honest_sale()
    assert misses(evidence, back_seconds=0.5) == "units were reserved again after 1.0 s, not within 0.5"

    evidence.records[:] = [each for each in evidence.records if each.who != DAN or each.kind == "poll"]
    assert "nobody got a unit after it was over" in misses(evidence)


def test_a_broken_promise_is_a_miss() -> None:
    evidence = honest_sale()
    assert evidence.books
    evidence.books.redis["available"] = 1

    assert "promise 6, units come back" in misses(evidence)


def test_nobody_who_clicked_meanwhile_is_a_miss() -> None:
    assert "the client was not there" in "; ".join(result(DRILL, honest_sale(), Blown(T0 + 3, T0 + 5)).misses)


def test_each_drill_has_a_name_of_its_own_and_says_what_is_promised() -> None:
    assert len({drill.name for drill in DRILLS}) == len(DRILLS) == 20
    assert all(drill.promise for drill in DRILLS)


def test_a_drill_that_is_not_there_is_refused() -> None:
    """Exit status 2, and one line that names those that are."""
    ran = subprocess.run(
        [sys.executable, "-m", "loadtests.drills"],
        cwd=CHECKOUT,
        env={**os.environ, "NAME": "redis-on-fire"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2
    assert "redis-hang" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
