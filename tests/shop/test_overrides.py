"""Overrides: written by staff, obeyed by every process, ended by themselves; whatever is away, whatever is typed."""

import http.client
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from resilience import degradation, quiet_logging
from resilience.breaker import Breaker
from resilience.degradation import Level, Situation
from resilience.quiet_logging import Gate
from shop import level_watch, overrides
from shop.local.servers import Running
from shop.models import Override
from tests.crowd import PATIENCE_SECONDS, at_once, eventually
from tests.free_ports import free_port
from tests.private_redis import PrivateRedis

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
ADD, LIST = "/admin/shop/override/add/", "/admin/shop/override/"


@pytest.fixture(autouse=True)
def normal() -> Iterator[None]:
    """Afterwards nothing hangs on the board, and the level is as it was."""
    overrides.notice.post([], 1)
    yield
    overrides.notice.post([], 1)
    degradation.current.situation = Situation()


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def soon(**later: float) -> Any:
    return timezone.now() + timedelta(**(later or {"minutes": 10}))


def force(level: str = "SHED", **later: float) -> Override:
    return overrides.add("level", "", level, reason="drill", author="boss", ends_at=soon(**later))


def in_force() -> list[tuple[str, str, str]]:
    return [(each.kind, each.name, each.value) for each in overrides.read()]


# --- Hearing ---------------------------------------------------------------------------------------------------------


def test_it_is_heard_as_soon_as_it_is_committed() -> None:
    """And no longer as soon as it has ended; ended again, it says that somebody was first."""
    hearing = overrides.Hearing()
    said = force()
    assert [(each.value, each.reason) for each in hearing.look()] == [("SHED", "drill")]

    assert overrides.end(said.pk, "boss")
    assert hearing.look() == ()
    assert not overrides.end(said.pk, "boss")


def test_it_ends_by_itself() -> None:
    """Nobody has to be there for it."""
    hearing = overrides.Hearing()
    force(seconds=0.5)

    assert hearing.look()
    eventually(lambda: not hearing.look())
    eventually(lambda: in_force() == [])  # a part of a millisecond later: PostgreSQL knows the end to the microsecond


def test_what_was_said_before_is_replaced() -> None:
    """Of a level there is one, of each breaker and each log, too."""
    first = force("SHED")
    force("STATIC")
    overrides.add("log", "buyer:17", "detail", reason="complains", author="ann", ends_at=soon())
    overrides.add("log", "buyer:18", "detail", reason="complains", author="ann", ends_at=soon())

    assert in_force() == [("level", "", "STATIC"), ("log", "buyer:17", "detail"), ("log", "buyer:18", "detail")]
    first.refresh_from_db()
    assert first.ended_at is not None


def test_one_that_ran_out_is_in_nobodys_way() -> None:
    """The constraint counts rows that nobody has ended; whoever comes next does, as of when it ran out."""
    first = force(seconds=0.2)
    eventually(lambda: in_force() == [])

    force("BROWNOUT")

    first.refresh_from_db()
    assert first.ended_at == first.ends_at


def test_two_staff_at_once() -> None:
    """One is in force, in PostgreSQL as in Redis; the other one has been replaced, and nobody sees an error."""

    def press(level: str) -> Override:
        return force(level)

    for _ in range(5):
        at_once(["BROWNOUT", "SHED", "STATIC", "NORMAL"], press)

        [(_kind, _name, value)] = in_force()
        assert [each.value for each in overrides.Hearing().look()] == [value]
        assert Override.objects.filter(ended_at=None).count() == 1


def test_a_day_at_most_says_the_table_too() -> None:
    """Also to whoever writes a row past `overrides`."""
    for wrong in ({"ends_at": soon(hours=25)}, {"ends_at": soon(minutes=-1)}, {"reason": ""}, {"kind": "moon"}):
        row = {"kind": "level", "value": "SHED", "reason": "drill", "author": "boss", "ends_at": soon(), **wrong}
        with pytest.raises(IntegrityError):
            Override.objects.create(**row)


def test_a_cache_redis_that_lost_it_is_told_again() -> None:
    """By whoever misses it: the row is the truth."""
    force()
    hearing = overrides.Hearing()
    overrides.notice.post([], 1)
    eventually(lambda: overrides.notice.read() is None)

    eventually(lambda: [each.value for each in hearing.look()] == ["SHED"])
    assert eventually(overrides.notice.read)


@pytest.mark.parametrize("nonsense", ["nothing", 7, [7], [["level"]], [["level", "", "SHED", "why", "soon"]], {}])
def test_what_others_hang_up_is_not_believed(nonsense: Any) -> None:
    """PostgreSQL is asked instead."""
    hearing = overrides.Hearing()
    force()
    overrides.notice.post(nonsense, 60)

    if nonsense == {}:
        assert hearing.look() == ()  # an empty list in other clothes
    else:
        eventually(lambda: [each.value for each in hearing.look()] == ["SHED"])


def test_redis_hangs_and_it_stays_until_its_end(frozen: Callable[[str], Any]) -> None:
    """What was heard last is in force; what comes new is read from PostgreSQL."""
    hearing = overrides.Hearing()
    said = force(seconds=30)
    assert hearing.look()

    with frozen("redis-cache"):
        assert [each.value for each in hearing.look()] == ["SHED"]
        overrides.end(said.pk, "boss")
        eventually(lambda: not hearing.look())


def test_both_are_away_and_it_ends_by_itself(frozen: Callable[[str], Any]) -> None:
    """The level is forced as long as it was meant to be, and not longer; nobody waits for what hangs."""
    hearing = overrides.Hearing()
    force(seconds=3)
    assert hearing.look()

    with frozen("redis-cache"), frozen("postgresql"):
        assert [each.value for each in hearing.look()] == ["SHED"]
        assert hearing._reading.locked()
        eventually(lambda: not hearing.look())
    eventually(lambda: not hearing._reading.locked())


# --- What a process does ---------------------------------------------------------------------------------------------


def test_a_breaker_is_forced_and_let_go() -> None:
    """Open, then bypassed, then automatic again; one of which nobody said anything is left alone."""
    dependency, other = Breaker("a dependency of this test"), Breaker("another one")
    other.force_open()
    watch = level_watch.Watch()
    states = []
    for value in ("open", "bypass"):
        said = overrides.add("breaker", dependency.name, value, reason="drill", author="boss", ends_at=soon())
        watch.tick(1.0)
        states.append(dependency.state)
    overrides.end(said.pk, "boss")
    watch.tick(2.0)

    assert [*states, dependency.state] == ["forced open", "bypassed", "closed"]
    assert other.state == "forced open"


def test_whoever_is_flagged_is_logged_in_full(settings: Settings) -> None:
    """Beside those of the environment, and as long as it lasts."""
    settings.LOG_IN_DETAIL = ["sale:summer"]
    gate = Gate()
    quiet_logging.install(gate)
    try:
        watch = level_watch.Watch()
        said = overrides.add("log", "buyer:17", "detail", reason="complains", author="boss", ends_at=soon())
        watch.tick(1.0)
        assert gate.watched == {"sale:summer", "buyer:17"}

        overrides.end(said.pk, "boss")
        watch.tick(2.0)
        assert gate.watched == {"sale:summer"}
    finally:
        quiet_logging.install(None)


def test_a_forced_level_is_situation_and_reason() -> None:
    """As staff said it, also NORMAL in a storm; then what the signs ask for."""
    watch = level_watch.Watch()
    said = force("STATIC")
    watch.tick(1.0)
    assert degradation.current.situation == Situation(Level.STATIC, "drill", is_forced=True)

    overrides.end(said.pk, "boss")
    watch.tick(2.0)
    assert degradation.current.level == Level.NORMAL


# --- Real processes --------------------------------------------------------------------------------------------------


@contextmanager
def web_process(port: int, environment: dict[str, str]) -> Iterator[None]:
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port)),
        *("--blocking-threads", "64", "--log-level", "warning", "shop.wsgi:application"),
    ]
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def front_page(port: int) -> int:
    """Its status; 0 while nobody listens."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        client.request("GET", "/", headers={"Accept": "text/html"})
        return client.getresponse().status
    except OSError:
        return 0
    finally:
        client.close()


def test_every_process_obeys_also_when_redis_has_died(servers: Running, tmp_path: Path) -> None:
    """Two processes go STATIC and come back by themselves; with cache Redis killed they stay as they were, hear what is
    new from PostgreSQL, and go back to NORMAL when it ends."""
    private = PrivateRedis(servers, tmp_path)
    database = {name: connection.settings_dict[name] for name in ("HOST", "PORT", "NAME")}
    url = "postgresql://shop@/{NAME}?host={HOST}&port={PORT}".format(**database)
    environment = {"CACHE_REDIS_URL": private.url, "DATABASE_URL": url, "ALLOWED_HOSTS": "*"}
    ports = [free_port(), free_port()]

    def level(*words: str) -> None:
        command = [sys.executable, "manage.py", "level", *words]
        subprocess.run(command, env={**os.environ, **environment}, cwd=ROOT, check=True, capture_output=True)

    def both(status: int) -> bool:
        return [front_page(port) for port in ports] == [status, status]

    with private.running(), web_process(ports[0], environment), web_process(ports[1], environment):
        eventually(lambda: both(200))

        level("STATIC", "--for", "3", "--reason", "drill")
        eventually(lambda: both(503))
        eventually(lambda: both(200))

        level("STATIC", "--for", "60", "--reason", "drill")
        eventually(lambda: both(503))
        private.process.kill()
        private.process.wait(PATIENCE_SECONDS)
        assert both(503)

        level("auto")
        eventually(lambda: both(200))
        level("STATIC", "--for", "10", "--reason", "drill")
        eventually(lambda: both(503))
        eventually(lambda: both(200))


def test_an_unknown_level_in_the_environment_stops_the_start() -> None:
    """With its name and the choices."""
    started = subprocess.run(
        [sys.executable, "-c", "import shop.settings"],
        env={**os.environ, "LEVEL": "PANIC"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode == 1
    assert started.stderr.endswith("LEVEL: must be one of auto, NORMAL, BROWNOUT, SHED, STATIC, not 'PANIC'\n")


def test_the_way_back_cannot_be_shut() -> None:
    """With the breaker of PostgreSQL open, the admin that ends it would be refused, too. It can be bypassed."""
    with pytest.raises(ValidationError, match="Force STATIC"):
        overrides.add("breaker", "PostgreSQL", overrides.OPEN, reason="drill", author="boss", ends_at=soon())
    overrides.add("breaker", "PostgreSQL", overrides.BYPASS, reason="drill", author="boss", ends_at=soon())

    assert in_force() == [("breaker", "PostgreSQL", "bypass")]


# --- Typed by staff --------------------------------------------------------------------------------------------------


def typed(**fields: str) -> dict[str, str]:
    ends_at = timezone.localtime(soon())
    return {
        "kind": "level",
        "name": "",
        "value": "SHED",
        "reason": "drill",
        "ends_at_0": f"{ends_at:%Y-%m-%d}",
        "ends_at_1": f"{ends_at:%H:%M:%S}",
        **fields,
    }


def test_staff_force_a_level_and_end_it(staff: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says that it takes effect within a second; both are in the audit log, with who and why."""
    audit = logging.getLogger("audit")
    audit.addHandler(caplog.handler)
    answer = staff.post(ADD, typed(), follow=True)
    assert b"takes effect within a second" in answer.content
    said = Override.objects.get()
    assert (said.value, said.author, said.ended_at) == ("SHED", "boss", None)
    assert [each.value for each in overrides.Hearing().look()] == ["SHED"]

    answer = staff.post(LIST, {"action": "end_now", "_selected_action": [said.pk]}, follow=True)
    audit.removeHandler(caplog.handler)

    assert b"has ended" in answer.content
    assert in_force() == []
    lines = [each.getMessage() for each in caplog.records if each.name == "audit.staff"]
    assert [line.split(", until")[0] for line in lines] == [
        "boss: override level SHED began: drill",
        "boss: override level SHED ended: drill",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"value": "PANIC"}, "Select a valid choice"),
        ({"value": "open"}, "One of NORMAL, BROWNOUT, SHED, STATIC."),
        ({"kind": "breaker", "name": "the moon", "value": "open"}, "There is no such breaker."),
        ({"kind": "breaker", "value": "SHED"}, "There is no such breaker."),
        ({"kind": "log", "name": "everybody", "value": "detail"}, "Say whose lines"),
        ({"kind": "log", "name": "buyer:1\n2", "value": "detail"}, "Say whose lines"),
        ({"kind": "moon"}, "Select a valid choice"),
        ({"name": "SHED"}, "A level has no name."),
        ({"reason": ""}, "This field is required."),
        ({"reason": "   "}, "This field is required."),
        ({"reason": "one\x1b[2Jline"}, "Say why, in one line"),
        ({"reason": "x" * 201}, "at most 200 characters"),
        ({"ends_at_0": "2020-01-01"}, "within 24 hours"),
        ({"ends_at_0": "2999-01-01"}, "within 24 hours"),
        ({"ends_at_0": "yesterday"}, "Enter a valid date"),
        ({"ends_at_0": "", "ends_at_1": ""}, "This field is required."),
    ],
)
def test_what_makes_no_sense_is_an_error_in_the_form(staff: Client, wrong: dict[str, str], said: str) -> None:
    """At its field; nothing is written and nothing told."""
    answer = staff.post(ADD, typed(**wrong))

    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not Override.objects.exists()


def test_who_may_not_may_not() -> None:
    """Looking, adding and ending are three permissions."""
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_override"))
    client = Client()
    client.force_login(clerk)
    said = force()

    assert client.get(LIST).status_code == 200
    assert client.post(ADD, typed()).status_code == 403
    client.post(LIST, {"action": "end_now", "_selected_action": [said.pk]})
    assert in_force() == [("level", "", "SHED")]
    assert client.post(f"{LIST}{said.pk}/change/", typed()).status_code == 403
    assert client.post(f"{LIST}{said.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_command_says_what_is_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    """Forced, ended, and by itself."""
    call_command("level")
    assert capsys.readouterr().out == "level automatic\n"

    call_command("level", "SHED", "--for", "600", "--reason", "drill")
    assert "level SHED until" in (said := capsys.readouterr().out)
    assert said.endswith(f"by user {os.getuid()} of this machine: drill\n")

    call_command("level", "auto")
    assert capsys.readouterr().out == "level automatic\n"
    assert in_force() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["PANIC", "--for", "60", "--reason", "drill"],
            "there is no level 'PANIC': NORMAL, BROWNOUT, SHED, STATIC, auto",
        ),
        (["SHED", "--reason", "drill"], "say for how long"),
        (["SHED", "--for", "0", "--reason", "drill"], "say for how long"),
        (["SHED", "--for", "86401", "--reason", "drill"], "say for how long"),
        (["SHED", "--for", "60"], "say why"),
        (["SHED", "--for", "60", "--reason", "  "], "say why"),
        (["SHED", "--for", "60", "--reason", "a\nb"], "in one line"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(words: list[str], said: str) -> None:
    """With status 2, and nothing done."""
    with pytest.raises(CommandError, match=said) as refused:
        call_command("level", *words)

    assert refused.value.returncode == 2
    assert not Override.objects.exists()


def test_a_name_for_everything_that_is_wrong() -> None:
    """All of it at once, by the fields of the form."""
    with pytest.raises(ValidationError) as wrong:
        overrides.check("breaker", "the moon", "wide open", reason="", ends_at=None)

    assert set(wrong.value.message_dict) == {"name", "value", "reason", "ends_at"}
