"""Server programs: what counts as one, where it may be, and what it says about itself when it is run."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shop.local.accounts import Account, as_account
from shop.local.refusal import Refusal

#: Seconds a program may take to tell its version. Some wrappers on PATH wait for ever.
VERSION_SECONDS = 5
#: Folders searched besides PATH, which root's environment and cron's often lack.
USUAL_FOLDERS = ("/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin")

Version = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of server, whatever name and version it has on this machine."""

    title: str
    commands: tuple[str, ...]
    #: What it says of its version begins with one of these -> the oldest that will do.
    oldest: Mapping[str, Version]
    debian_package: str
    #: Where the package has its programs, as a pattern below the private root.
    debian_folder: str
    #: What installs it for good, by package manager.
    install: Mapping[str, str]
    #: Programs that must be beside it.
    companions: tuple[str, ...] = ()
    #: Folders where systems hide it, as patterns.
    hidden: tuple[str, ...] = ()
    needed: bool = True
    #: What makes it say its version, and the exit status with which it ends then.
    version_option: str = "--version"
    version_status: int = 0


@dataclass(frozen=True)
class Program:
    path: Path
    title: str
    version: Version
    origin: str
    #: Folders of a private copy's libraries; for its own programs only.
    libraries: tuple[Path, ...] = field(default=())
    #: All that it said of its version: nginx tells there what it was built with.
    said: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """All that a server gets to see: variables such as PGPORT or LANG of the caller would change what it does."""
        found = {"PATH": os.defpath, "LC_ALL": "C"}
        if self.libraries:
            found["LD_LIBRARY_PATH"] = ":".join(str(folder) for folder in self.libraries)
        return found

    def __str__(self) -> str:
        return f"{self.title} {'.'.join(map(str, self.version))}"


REDIS = Kind(
    title="Redis",
    commands=("redis-server", "valkey-server"),
    oldest={"Redis": (7, 0), "Valkey": (7, 2)},
    debian_package="redis-server",
    debian_folder="usr/bin",
    install={
        "apt-get": "apt-get install redis-server",
        "dnf": "dnf install valkey",
        "apk": "apk add redis",
        "brew": "brew install redis",
    },
)
MEMCACHED = Kind(
    title="memcached",
    commands=("memcached",),
    oldest={"memcached": (1, 5)},
    debian_package="memcached",
    debian_folder="usr/bin",
    install={},
    needed=False,
)
NGINX = Kind(
    title="nginx",
    commands=("nginx",),
    oldest={"nginx": (1, 20)},  # the first stable one whose connections to the lanes have an age
    debian_package="nginx",
    debian_folder="usr/sbin",
    install={},
    needed=False,
    version_option="-V",
)
WRK = Kind(  # for the bench alone
    title="wrk",
    commands=("wrk",),
    oldest={"wrk": (4, 0)},
    debian_package="wrk",
    debian_folder="usr/bin",
    install={
        "apt-get": "apt-get install wrk",
        "dnf": "dnf install wrk",
        "apk": "apk add wrk",
        "brew": "brew install wrk",
    },
    needed=False,
    version_status=1,  # it takes the question for a mistake
)
POSTGRESQL = Kind(
    title="PostgreSQL",
    commands=("postgres",),
    oldest={"postgres": (14,)},
    debian_package="postgresql",
    debian_folder="usr/lib/postgresql/*/bin",
    install={
        "apt-get": "apt-get install postgresql",
        "dnf": "dnf install postgresql-server",
        "apk": "apk add postgresql",
        "brew": "brew install postgresql@17",
    },
    companions=("initdb",),
    hidden=(
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/libexec/postgresql*",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
        "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
        "/Applications/Postgres.app/Contents/Versions/*/bin",
    ),
)


def on_this_machine(kind: Kind, account: Account | None, environ: Mapping[str, str]) -> Program | None:
    """The one on PATH that runs; of a kind that systems hide in folders by version, the newest of all."""
    search = [*environ.get("PATH", os.defpath).split(os.pathsep), *USUAL_FOLDERS]
    folders = [Path(folder) for folder in search if folder]
    folders += _told_by_pg_config(environ) if kind is POSTGRESQL else []
    for pattern in kind.hidden:
        folders += Path("/").glob(pattern.removeprefix("/"))
    return best(kind, programs_in(folders, kind, "on this machine", account))


def _told_by_pg_config(environ: Mapping[str, str]) -> list[Path]:
    if not (pg_config := shutil.which("pg_config", path=environ.get("PATH"))):
        return []
    try:
        answer = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [Path(answer.stdout.strip())]


def programs_in(
    folders: Sequence[Path],
    kind: Kind,
    origin: str,
    account: Account | None,
    libraries: tuple[Path, ...] = (),
) -> Iterator[Program]:
    """Each program of the kind in these folders that runs as the account and is new enough, each one once."""
    seen = set()
    for command in kind.commands:
        for folder in folders:
            path = folder / command
            if _is_program(path) and path.resolve() not in seen and _has_companions(path, kind):
                seen.add(path.resolve())
                if program := _probe(path, kind, origin, account, libraries):
                    yield program


def best(kind: Kind, programs: Iterator[Program]) -> Program | None:
    if kind.hidden:
        return max(programs, key=lambda program: program.version, default=None)
    return next(programs, None)


def _is_program(path: Path) -> bool:
    return os.access(path, os.X_OK)  # False, and no error, for a folder on PATH that we may not enter


def _has_companions(path: Path, kind: Kind) -> bool:
    return all(_is_program(path.with_name(name)) for name in kind.companions)


def _probe(path: Path, kind: Kind, origin: str, account: Account | None, libraries: tuple[Path, ...]) -> Program | None:
    """Ask for its version as the account that will run it: what cannot be run there does not count."""
    unknown = Program(path, "", (), origin, libraries)
    try:
        done = subprocess.run(
            [path, kind.version_option],
            env=unknown.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
            **as_account(account),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != kind.version_status:
        return None

    answer = done.stdout or done.stderr  # nginx speaks on stderr
    name = answer.partition(" ")[0]
    version = _version(answer)
    if version < kind.oldest.get(name, (*version, 1)):
        return None
    return Program(path, kind.title if name == "postgres" else name, version, origin, libraries, answer)


def _version(answer: str) -> Version:
    """The first number with or without points: `Redis server v=7.0.15 sha=0`, `nginx version: nginx/1.22.1`."""
    found = re.search(r"\d+(\.\d+)*", answer)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def missing(kind: Kind, environ: Mapping[str, str]) -> Refusal:
    """The one line for a person whose machine has it nowhere."""
    for manager, command in kind.install.items():
        if shutil.which(manager, path=environ.get("PATH")):
            return Refusal(f"{kind.title} was not found, and no copy could be fetched. Install it: {command}")
    names = " or ".join(kind.oldest)
    return Refusal(f"{kind.title} was not found, and no copy could be fetched. Put {names} on PATH")
