"""Settings out of range: whatever starts says which, and within what it has to be, in one line, and does not start.

The settings are found by their calls in `settings.py`, so that a new one is tried as well.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import shop.settings
from shop import env
from shop.local.tools import CHECKOUT
from tests.free_ports import free_port

#: Readers whose values cannot be wrong by themselves: an address, a name, a list of them.
FREE = {"text", "words", "fill_from", "forget"}
#: Values that no number, choice or list of that kind allows, besides those that follow from its range.
NEVER: dict[str, list[str]] = {
    "whole": ["", "-1", "1.5", "one", "1e3", "0x1", "9" * 20, " 1", "nan", "inf"],
    "flag": ["", "yes", "1", "ON"],
    "choice": ["", "nonsense", "nonsense,"],
    "rate": ["", "0/1", "1/0", "-1/1", "1", "1/1/1", "x/y", f"{10**9}/1", "1.5/1"],
    "numbers": ["", "-1", "/", "1/2/3/4/5/6", "x/y", "1.5/1/1"],
    "networks": ["nonsense", "10.0.0.0/33", "10.0.0.1/8"],
    "keys": ["", ",", "short", "a" * 64],
}
#: What each says of a value that it refuses.
SAYS = {
    **dict.fromkeys(("whole", "flag", "choice", "rate", "numbers", "networks"), "must be "),
    "keys": ("is not set", "a key is weak"),
}


@dataclass(frozen=True)
class Setting:
    """A call of one of `env`'s readers, and the name of the variable that it reads."""

    reader: str
    name: str
    call: ast.Call

    def __str__(self) -> str:
        return self.name

    def read(self, module: ModuleType = shop.settings) -> object:
        """Read it again, as the settings do."""
        return eval(compile(ast.Expression(self.call), "settings.py", "eval"), vars(module))

    def bounds(self) -> tuple[int, int]:
        """Of a whole number, as they are written there."""
        given = {
            word.arg: eval(compile(ast.Expression(word.value), "", "eval"), vars(shop.settings))
            for word in self.call.keywords
        }
        return given.get("least", 0), given["most"]

    def wrong(self) -> list[str]:
        if self.reader != "whole":
            return NEVER[self.reader]
        least, most = self.bounds()
        return [*NEVER["whole"], str(most + 1), *([str(least - 1)] if least else [])]


def settings_of(tree: ast.AST) -> Iterator[Setting]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "env"
            and node.func.attr not in FREE | {"BadSetting"}
        ):
            name = node.args[0]
            assert isinstance(name, ast.Constant), "a setting is read by its name"
            yield Setting(node.func.attr, str(name.value), node)


SETTINGS = list(settings_of(ast.parse(Path(shop.settings.__file__).read_text())))
NUMBERS = [each for each in SETTINGS if each.reader == "whole"]


def test_the_settings_are_found() -> None:
    """Of each reader, one at least, and no reader that this test does not know."""
    assert {each.reader for each in SETTINGS} == set(NEVER)
    assert {"TICKET_SECONDS", "RETRY_PROVIDER", "LOG_LEVEL"} <= {each.name for each in SETTINGS}


def test_settings_are_read_in_one_file() -> None:
    """So that an operator finds them all, and so does this test."""
    others = [path for path in (CHECKOUT / "shop").rglob("*.py") if path.name not in ("settings.py", "env.py")]

    assert not [path for path in others if list(settings_of(ast.parse(path.read_text())))]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_value_out_of_range_is_refused_in_one_line(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the variable first, and what it has to be."""
    for wrong in setting.wrong():
        monkeypatch.setenv(setting.name, wrong)
        with pytest.raises(env.BadSetting) as refused:
            setting.read()
        name, _, reason = str(refused.value).partition(": ")
        assert name == setting.name
        assert reason.startswith(SAYS[setting.reader])
        assert "\n" not in reason


@pytest.mark.parametrize("setting", NUMBERS, ids=str)
def test_a_number_has_a_least_and_a_most(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are allowed, both are told to whoever goes beyond, and the most is one that somebody thought of."""
    least, most = setting.bounds()
    for value in (least, most):
        monkeypatch.setenv(setting.name, str(value))
        assert setting.read() == value

    monkeypatch.setenv(setting.name, str(most + 1))
    with pytest.raises(env.BadSetting, match=f"from {least} to {most}, not '{most + 1}'"):
        setting.read()


def start(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WAYS_TO_START = {
    "a command": ["manage.py", "check"],
    "a worker": ["-m", "celery", "-A", "shop", "worker"],
    "the beat": ["-m", "celery", "-A", "shop", "beat"],
    "a web server": ["-m", "granian", "--interface", "wsgi", "shop.wsgi:application", "--port", str(free_port())],
}


@pytest.mark.parametrize("way", WAYS_TO_START)
def test_nothing_starts_with_a_setting_out_of_range(way: str) -> None:
    """It ends by itself, with that line, and without a traceback."""
    ended = start(*WAYS_TO_START[way], TICKET_SECONDS="-1")

    assert ended.returncode != 0
    assert "TICKET_SECONDS: must be a whole number from 1 to 3600, not '-1'" in ended.stderr.splitlines()
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("RETRY_TASKS", "5/60/1"), ("QUEUE_LEAST_MS", "300"), ("BREAKER_OPEN_SECONDS", "9/2")]
)
def test_numbers_that_make_no_sense_together(name: str, value: str) -> None:
    """Each is fine by itself: the least pause, wait or rest is longer than the most."""
    ended = start("manage.py", "check", **{name: value})

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"{name}: ")
    assert " from " not in ended.stderr, "refused by its range alone"
