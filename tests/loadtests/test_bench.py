"""The bench: its arithmetic on made-up samples, what it refuses, and one tiny run of the whole."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import bench, table
from loadtests.catalogue import BARS, CACHE, CONTENDERS, PARTS
from loadtests.contenders.caching.expiries import PERIOD_SECONDS, most_in_a_period
from loadtests.figures import HOLDS, MISSES, UNKNOWN, Bar, Figure, Figures, Sample, judge, judge_all, percentile, ratio
from shop.local.accounts import shared_temp
from shop.local.tools import CHECKOUT
from tests.servers import clean_environment


def made_up(**samples: list[float]) -> Figures:
    """Figures with these samples, one for each round."""
    figures = Figures()
    for name, values in samples.items():
        for value in values:
            figures.add(name, [Sample(value, "rows/s")])
    return figures


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that halves its speed halves both, and changes no ratio; medians of the two would say 0.67."""
    ours, baseline = Figure("ours", "rows/s", [50, 100, 20]), Figure("baseline", "rows/s", [100, 200, 40])

    pairs = ratio(ours, baseline)

    assert pairs.samples == [0.5, 0.5, 0.5]
    assert pairs.name == "/ baseline"


def test_a_figure_knows_its_middle_and_its_spread() -> None:
    """One bad round moves the spread and not the median."""
    figure = Figure("copy", "rows/s", [100, 5, 101])

    assert (figure.median, figure.least, figure.most) == (100, 5, 101)


def test_parts_of_a_contender_are_figures_of_their_own() -> None:
    """`task per order: publish` beside `task per order: consume`; no part, no colon."""
    figures = Figures()

    figures.add("task per order", [Sample(1, "orders/s", "publish"), Sample(2, "orders/s", "consume")])
    figures.add("copy", [Sample(3, "rows/s")])

    assert [figure.name for figure in figures] == ["task per order: publish", "task per order: consume", "copy"]


@pytest.mark.parametrize(("part", "value"), [(0.5, 50), (0.99, 99), (0.991, 100), (1, 100), (0, 1)])
def test_a_percentile_is_one_of_the_values(part: float, value: float) -> None:
    """The least that so many do not exceed, in whatever order they came."""
    assert percentile([*range(100, 0, -1)], part) == value


def test_loads_of_one_period_are_counted_together() -> None:
    """Two that are a moment apart are one too many; the next one is due when a period is over."""
    assert most_in_a_period([0.0, PERIOD_SECONDS, 2 * PERIOD_SECONDS]) == 1
    assert most_in_a_period([0.0, PERIOD_SECONDS, PERIOD_SECONDS + 0.01]) == 2


@pytest.mark.parametrize(
    ("bar", "word"),
    [
        (Bar("drain", "copy", at_least=0.5), HOLDS),
        (Bar("drain", "copy", at_least=0.51), MISSES),
        (Bar("drain", at_most=100), HOLDS),
        (Bar("drain", at_most=99), MISSES),
        (Bar("drain", "copy"), HOLDS),
        (Bar("drain", "left out", at_least=0.5), UNKNOWN),
        (Bar("left out", at_most=1), UNKNOWN),
    ],
)
def test_a_bar_is_judged_by_the_median(bar: Bar, word: str) -> None:
    """Of the figure, or of its ratios; what was left out of the run is neither held nor missed."""
    figures = made_up(copy=[200, 200, 200], drain=[100, 1, 190])

    assert judge(bar, figures).word == word


def test_the_table_puts_a_ratio_below_its_figure() -> None:
    """With its median, spread, bar and verdict; a bar of the figure itself stands in the figure's own row."""
    figures = made_up(copy=[200_000, 100_000], drain=[50_000, 50_000], expiry=[1.234, 1.234])
    bars = [Bar("drain", "copy", at_least=0.5, because="half"), Bar("expiry", at_most=5, because="soon")]

    lines = table.text(figures, judge_all(bars, figures)).splitlines()

    assert [line.split()[0] for line in lines] == ["what", "copy", "drain", "/", "expiry"]
    assert "150 000" in lines[1]
    assert lines[3].split("  ")[1].strip() == "/ copy"
    assert "0.375" in lines[3]
    assert "0.25..0.5" in lines[3]
    assert lines[3].endswith(">= 0.5  misses: half")
    assert lines[4].endswith("<= 5    holds: soon")


def test_markdown_has_the_same_cells() -> None:
    """Each row as many as the header, so that it renders as a table."""
    figures = made_up(copy=[200], drain=[100])

    lines = table.markdown(figures, judge_all([Bar("drain", "copy", at_least=0.6, counts=False)], figures)).splitlines()

    assert {line.count("|") for line in lines} == {len(table.HEADER) + 1}
    assert "misses (does not count)" in lines[-1]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.0123"), (41.26, "41.3"), (412.3, "412"), (1_234_567.0, "1 234 567"), (0, "0")]
)
def test_numbers_show_what_matters(value: float, text: str) -> None:
    assert table.number(value) == text


@pytest.mark.parametrize(("drained", "only_report", "status"), [(100, False, 0), (99, False, 1), (99, True, 0)])
def test_a_missed_bar_is_the_exit_status(
    drained: float, only_report: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not count is printed only; both files are written whatever the verdict."""
    bars = [Bar("drain", "copy", at_least=0.5), Bar("drain", "copy", at_least=0.9, counts=False)]
    monkeypatch.setattr(bench, "BARS", bars)
    options = argparse.Namespace(
        json=tmp_path / "bench.json", markdown=tmp_path / "bench.md", report_only=only_report, rounds=1, seconds=1.0
    )

    assert bench.report(made_up(copy=[200], drain=[drained]), {"processors": "2"}, options) == status

    written = json.loads(options.json.read_text())
    assert [each["verdict"] for each in written["ratios"]] == [MISSES if drained < 100 else HOLDS, MISSES]
    assert written["ratios"][0]["samples"] == [drained / 200]
    assert options.markdown.read_text().startswith("| what |")


def test_every_bar_is_about_a_contender() -> None:
    """And its baseline is one that runs in every round, as it does itself."""
    for bar in BARS:
        assert bar.figure.partition(":")[0] in CONTENDERS
        if bar.against:
            pair = [CONTENDERS[name.partition(":")[0]] for name in (bar.figure, bar.against)]
            assert not any(entry.once for entry in pair)


def test_an_unknown_contender_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Said before any server is started, with the names that there are."""
    assert bench.main(["--only", "redis set 1", "warp drive"]) == 2

    heard = capsys.readouterr()
    assert heard.err.startswith("no such contender: warp drive; there are redis set 1, ")
    assert heard.err.count("\n") == 1
    assert heard.out == ""


def test_a_part_is_measured_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """By its word; each contender is of one part, and `--only` chooses among those."""
    assert bench._chosen("cache", None) == CACHE
    assert [name for part in PARTS.values() for name in part] == list(CONTENDERS)

    assert bench.main(["cache", "--only", "drain"]) == 2
    assert capsys.readouterr().err.startswith("no such contender: drain; there are dict, ")


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--seconds", "-1"], ["--seconds", "nan"], ["--rounds", "x"]])
def test_a_run_of_no_length_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        bench.main(option)

    assert refused.value.code == 2
    assert option[0] in capsys.readouterr().err


@pytest.fixture
def temp() -> Iterator[Path]:
    """A temp folder of short name that the servers' account may enter, for a run of its own."""
    with tempfile.TemporaryDirectory(prefix="seckill-", dir=shared_temp()) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_a_tiny_run_from_start_to_end(temp: Path, tmp_path: Path) -> None:
    """Servers of its own, durable ones, figures of both parts, a file, and nothing left behind."""
    told = tmp_path / "bench.json"

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "loadtests.bench", "--only", "redis set 1", "cache stampede"),
            *("--rounds", "1", "--seconds", "0.1", "--json", str(told)),
        ],
        cwd=CHECKOUT,
        env={**clean_environment(), "TMPDIR": str(temp)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    written = json.loads(told.read_text())
    medians = {figure["name"]: figure["median"] for figure in written["figures"]}
    assert medians["redis set 1"] > 0
    assert medians["cache stampede: most of a key"] == medians["cache stampede: least of a key"] == 1
    assert written["machine"]["fsync"] == "always"
    verdicts = {each["verdict"]: each["name"] for each in written["ratios"] + written["limits"]}
    assert verdicts.keys() == {UNKNOWN, HOLDS}
    assert verdicts[HOLDS].startswith("cache stampede")
    assert list(temp.iterdir()) == []
