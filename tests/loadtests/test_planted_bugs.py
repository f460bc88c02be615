"""The verdict on a whole shop with a mistake planted in its code: a copy of the checkout, changed in one place."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from shop.local.tools import CHECKOUT
from tests.servers import clean_environment

#: Of a checkout, what a shop is started from.
PARTS = ("manage.py", "shop", "inventory", "resilience")
#: People, units and seconds: enough that some walk away and that their units are bought by others.
CROWD = {"SHAPE": "spike", "USERS": "80", "QUANTITY": "40", "SECONDS": "24", "SEED": "20261124"}
LOAD_SECONDS = 300


@dataclass(frozen=True)
class Mistake:
    """In this file, these words instead of those."""

    file: str
    right: str
    wrong: str
    #: The promise that the verdict has to name.
    promise: str


RELEASED_TWICE = Mistake(
    "inventory/settle.lua",
    "redis.call('HINCRBY', KEYS[1], 'available', units)",
    "redis.call('HINCRBY', KEYS[1], 'available', 2 * units)",
    "promise 1, never oversold",
)
LIMIT_SKIPPED = Mistake(
    "inventory/reserve.lua",
    "if owned + units > limit then return 'LIMIT_REACHED' end",
    "",
    "promise 2, one buyer, one limit",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy that can be started, with the programs that were fetched for this one."""
    tmp_path.chmod(0o755)
    copy = tmp_path / "checkout"
    for part in PARTS:
        source = CHECKOUT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(source, copy / part)
    if (CHECKOUT / ".tools").exists():
        (copy / ".tools").symlink_to(CHECKOUT / ".tools")
    return copy


@pytest.mark.parametrize("mistake", [RELEASED_TWICE, LIMIT_SKIPPED], ids=["released twice", "limit skipped"])
def test_a_shop_with_a_planted_bug_fails(checkout: Path, tmp_path: Path, mistake: Mistake) -> None:
    """Exit status 1, and the promise that the bug breaks is among those that were seen broken."""
    path = checkout / mistake.file
    text = path.read_text()
    assert text.count(mistake.right) == 1
    path.write_text(text.replace(mistake.right, mistake.wrong))

    ran = subprocess.run(
        [sys.executable, "-m", "loadtests.load"],
        cwd=CHECKOUT,
        env={**clean_environment(), **CROWD, "SHOP_FROM": str(checkout), "REPORT": str(tmp_path / "report")},
        capture_output=True,
        text=True,
        timeout=LOAD_SECONDS,
        check=False,
    )

    assert ran.returncode == 1, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"] == "FAIL"
    assert mistake.promise in ran.stdout, ran.stdout
