"""The documents say what is true: commands, links, settings, vendored files and the lock."""

import re
import subprocess
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("*/README.md")]


def test_every_make_command_exists() -> None:
    """A recipe that a document names is one that `make` prints."""
    recipes = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for path in DOCUMENTS for name in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", path.read_text(), re.M)
    }
    named = {first or second for first, second in named}

    assert named <= recipes
    assert {"up", "test"} <= named


def test_make_alone_prints_the_recipes() -> None:
    """A newcomer who types `make` is told what there is."""
    printed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "make up" in printed
    assert "make test" in printed


def test_every_management_command_is_in_the_readme() -> None:
    """And what the README names exists."""
    ours = {name for name, app in get_commands().items() if app == "shop"}
    named = set(re.findall(r"`manage\.py ([a-z]+)", README)) | set(re.findall(r"`(pause|resume|close)`", README))

    assert named - {"up"} == ours - {"up", "prepare"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link, and each picture, is a file of this repository."""
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'<img src="([^"]+)"', text):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_setting_is_in_the_readme() -> None:
    """Whatever `settings.py` reads from the environment, an operator finds in the table."""
    settings = (ROOT / "shop/settings.py").read_text()
    read = set(
        re.findall(r"env\.(?:text|whole|flag|choice|words|keys|networks|rate|numbers)\(\s*\"([A-Z_]+)\"", settings)
    )
    table = set(re.findall(r"`([A-Z_]+)`", README))

    assert read - table - {"PROFILE", "STATE"} == set()


def test_the_first_command_comes_early() -> None:
    """By line 12, before anybody scrolls."""
    assert "make up" in "\n".join(README.splitlines()[:12])


def test_the_lock_contains_no_address() -> None:
    """It works with whatever index a machine is told to use."""
    lock = (ROOT / "requirements.lock").read_text()

    assert "://" not in lock
    assert lock.count("--hash=sha256:") > lock.count("==")
