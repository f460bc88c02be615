"""Settings from the environment: typed, or one clear line at the start."""

import subprocess
import sys
from pathlib import Path

import pytest

from shop import env
from tests.servers import clean_environment

NAME = "A_SETTING"
KEY = "0123456789abcdefghijklmnopqrstuv"
CHECKOUT = Path(__file__).resolve().parents[2]


def say(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Set the variable, or leave it unset."""
    if value is None:
        monkeypatch.delenv(NAME, raising=False)
    else:
        monkeypatch.setenv(NAME, value)


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, even when it is empty; without a default it has to be there."""
    say(monkeypatch, " as it is ")
    assert env.text(NAME) == " as it is "
    say(monkeypatch, "")
    assert env.text(NAME, "default") == ""
    say(monkeypatch, None)
    assert env.text(NAME, "default") == "default"
    with pytest.raises(env.BadSetting, match=f"^{NAME}: is not set"):
        env.text(NAME)


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10), ("007", 7), (None, 5)])
def test_a_whole_number(monkeypatch: pytest.MonkeyPatch, value: str | None, number: int) -> None:
    """From the least to the most, both included; unset it is the default."""
    say(monkeypatch, value)
    assert env.whole(NAME, 5, least=1, most=10) == number


@pytest.mark.parametrize("value", ["0", "11", "-1", "1.5", "", " 1", "1\n", "1e1", "0x1", "٣", "²", "one", "9" * 100])
def test_no_whole_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Anything else is refused with what was expected."""
    say(monkeypatch, value)
    with pytest.raises(env.BadSetting, match=f"^{NAME}: must be a whole number from 1 to 10, not"):
        env.whole(NAME, 5, least=1, most=10)


def test_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """`on` or `off` and no other spelling, so that nobody believes that `False` is off."""
    for value, meant in (("on", True), ("off", False), (None, True)):
        say(monkeypatch, value)
        assert env.flag(NAME, default=True) is meant
    for value in ("", "1", "true", "ON", "no", "on "):
        say(monkeypatch, value)
        with pytest.raises(env.BadSetting, match=f"^{NAME}: must be on or off, not '{value}'"):
            env.flag(NAME, default=True)


def test_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of those that there are."""
    for value, meant in (("red", "red"), (None, "blue")):
        say(monkeypatch, value)
        assert env.choice(NAME, ("red", "blue"), default="blue") == meant
    say(monkeypatch, "green")
    with pytest.raises(env.BadSetting, match="must be one of red, blue, not 'green'"):
        env.choice(NAME, ("red", "blue"), default="blue")


@pytest.mark.parametrize(
    ("value", "words"), [(None, ["x"]), ("", []), ("a", ["a"]), (" a , b,,c ,", ["a", "b", "c"]), (",", [])]
)
def test_words(monkeypatch: pytest.MonkeyPatch, value: str | None, words: list[str]) -> None:
    """Separated by commas, with blanks and empty ones dropped."""
    say(monkeypatch, value)
    assert env.words(NAME, "x") == words


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """One or several, the first one first, each strong."""
    say(monkeypatch, f"{KEY},{KEY[::-1]}")
    assert env.keys(NAME) == [KEY, KEY[::-1]]


@pytest.mark.parametrize("value", [None, "", ",", KEY[:-1], "a" * 64, "ab" * 32, f"{KEY},short", "changeme"])
def test_weak_keys_are_refused(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Missing, short, or of a few letters only, also as the second one; the message does not tell the key."""
    say(monkeypatch, value)
    with pytest.raises(env.BadSetting, match=f"^{NAME}: ") as refused:
        env.keys(NAME)
    assert not value or len(value) < 4 or value not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "networks"),
    [("", []), ("10.0.0.0/8, ::1", ["10.0.0.0/8", "::1/128"]), ("127.0.0.0/8,::1/128", ["127.0.0.0/8", "::1/128"])],
)
def test_networks(monkeypatch: pytest.MonkeyPatch, value: str, networks: list[str]) -> None:
    """Of both versions; a single address is a network of one."""
    say(monkeypatch, value)
    assert [str(network) for network in env.networks(NAME)] == networks


@pytest.mark.parametrize("value", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8 ::1"])
def test_no_networks(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A name, or a network whose host bits are set, is not guessed at."""
    say(monkeypatch, value)
    with pytest.raises(env.BadSetting, match=f"^{NAME}: must be networks like"):
        env.networks(NAME)


def test_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many a minute, so many at once."""
    for value, meant in ((None, (120, 20)), ("1/1", (1, 1)), ("60000000/5", (60_000_000, 5))):
        say(monkeypatch, value)
        assert env.rate(NAME, "120/20") == meant


@pytest.mark.parametrize("value", ["", "120", "120/", "/20", "0/20", "120/0", "1.5/2", "120/20/1", "60000001/1", "a/b"])
def test_no_rate(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Neither may be left out, and none is no limit at all."""
    say(monkeypatch, value)
    with pytest.raises(env.BadSetting, match=f"^{NAME}: must be so many a minute and so many at once"):
        env.rate(NAME, "120/20")


RANGES = {"attempts": (1, 3), "ms": (0, 100)}


def test_several_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each within its own range, the bounds included."""
    for value, meant in ((None, (2, 50)), ("1/0", (1, 0)), ("3/100", (3, 100))):
        say(monkeypatch, value)
        assert env.numbers(NAME, "2/50", RANGES) == meant


@pytest.mark.parametrize("value", ["", "2", "2/50/1", "0/50", "4/50", "2/-1", "2/101", "2/", "/50", "2/5.0", "a/b"])
def test_not_these_numbers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """As many as there are ranges; each range is told with what it is about."""
    say(monkeypatch, value)
    with pytest.raises(env.BadSetting, match=f"^{NAME}: must be attempts from 1 to 3 / ms from 0 to 100, like 2/50"):
        env.numbers(NAME, "2/50", RANGES)


def test_a_file_fills_only_what_is_unset(tmp_path: Path) -> None:
    """The environment wins; a value may hold an equals sign; lines that are none are skipped; no file is no error."""
    (tmp_path / "env").write_text("SET=file\nUNSET=a=b\nEMPTY=\n\nno equals sign\n")
    environment = {"SET": "environment"}

    env.fill_from(tmp_path / "env", environment)
    env.fill_from(tmp_path / "missing", environment)

    assert environment == {"SET": "environment", "UNSET": "a=b", "EMPTY": ""}


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A folder in its place, for instance."""
    with pytest.raises(env.BadSetting, match="cannot be read"):
        env.fill_from(tmp_path, {})


GOOD = {
    "PROFILE": "test",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    **dict.fromkeys(("STOCK_REDIS_URL", "CACHE_REDIS_URL", "BROKER_URL"), "redis://127.0.0.1:1"),
    **dict.fromkeys(("SECRET_KEY", "BUYER_KEYS", "TICKET_KEYS", "RECEIPT_KEYS", "PROVIDER_SECRET"), KEY),
}


def manage(state: Path, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=CHECKOUT,
        env={**clean_environment(), "STATE": str(state), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "postgresql://[::1/x"}, "DATABASE_URL: "),
        ({"PROFILE": "staging"}, "PROFILE: must be one of local, test, production, not 'staging'"),
        ({"HTTPS": "yes"}, "HTTPS: must be on or off, not 'yes'"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, not 'LOUD'"),
        ({"LOG_KEY_BURST": "11"}, "LOG_KEY_BURST: must be a whole number from 1 to 10, not '11'"),
        ({"RATE_LIMIT_EXEMPT": "localhost"}, "RATE_LIMIT_EXEMPT: must be networks like"),
        ({"RATE_LIMIT_BUYER": "0/1"}, "RATE_LIMIT_BUYER: must be so many a minute and so many at once, each from 1 to"),
        ({"TRUSTED_PROXIES": "all"}, "TRUSTED_PROXIES: must be a whole number from 0 to 10"),
        ({"TICKET_SECONDS": "0"}, "TICKET_SECONDS: must be a whole number from 1 to"),
        ({"SECRET_KEY": "secret"}, "SECRET_KEY: a key is weak"),
        ({"TICKET_KEYS": ""}, "TICKET_KEYS: is not set"),
    ],
)
def test_a_bad_setting_is_one_line(tmp_path: Path, bad: dict[str, str], said: str) -> None:
    """manage.py ends with 2 and one line that names the variable; no traceback."""
    ended = manage(tmp_path, GOOD | bad)

    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(said)


def test_a_missing_setting_is_one_line(tmp_path: Path) -> None:
    """Each variable that has to be there is asked for by its name."""
    for name in ("DATABASE_URL", "STOCK_REDIS_URL", "BUYER_KEYS"):
        ended = manage(tmp_path, {key: value for key, value in GOOD.items() if key != name})
        assert ended.returncode == 2
        [line] = ended.stderr.splitlines()
        assert line.startswith(f"{name}: is not set")


def test_state_files_are_enough(tmp_path: Path) -> None:
    """What `make up` writes is all that a second terminal needs."""
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in GOOD.items() if "KEY" not in name))
    (tmp_path / "secrets").write_text("".join(f"{name}={value}\n" for name, value in GOOD.items() if "KEY" in name))

    ended = manage(tmp_path, {})

    assert ended.returncode == 0, ended.stderr
