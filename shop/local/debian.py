"""A private copy of Debian's packages: downloaded and unpacked by apt and dpkg, installed nowhere, no root needed.

apt-get works with its own lists and cache below the tools folder, verifies signatures as it always does, and fetches
only what the machine lacks. `dpkg -x` unpacks into `debian/root`; programs find their libraries there by
LD_LIBRARY_PATH. Removed with the tools folder.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from shop.local.accounts import Account
from shop.local.programs import Kind, Program, best, programs_in
from shop.local.refusal import Broken
from shop.local.service import Service
from shop.local.tools import Tools, alone_in

ORIGIN = "private copy from Debian"
#: Seconds for one of the three steps on a slow line: PostgreSQL is 19 MB.
STEP_SECONDS = 120
#: After a failure nothing is tried for this long: a machine without a network would wait at each start.
TRY_AGAIN_SECONDS = 600

OPTIONS = {
    "Debug::NoLocking": "1",
    "APT::Install-Recommends": "false",
    "Acquire::Languages": "none",
    "Acquire::Retries": "0",
    "Acquire::http::Timeout": "5",
    "Acquire::https::Timeout": "5",
    "Dir::State::status": "/var/lib/dpkg/status",  # else apt fetches what the machine has
}

#: Where libraries are below the root. Those of the second folder are looked for where they would be installed, and
#: nowhere else unless somebody says so.
LIBRARIES = ("usr/lib/*-linux-*", "usr/lib/*-linux-*/pulseaudio")

Run = Callable[[Service, float], None]


def private_copies(kinds: Sequence[Kind], tools: Tools, account: Account | None, run: Run) -> dict[str, Program]:
    """Programs of these kinds by title, fetched when they are not there yet; those that cannot be had are left out."""
    found = _unpacked(kinds, tools, account)
    lacking = [kind for kind in kinds if kind.title not in found]
    if lacking and shutil.which("apt-get") and shutil.which("dpkg"):
        _fetch(lacking, tools, run)
        found |= _unpacked(lacking, tools, account)
    return found


def _unpacked(kinds: Sequence[Kind], tools: Tools, account: Account | None) -> dict[str, Program]:
    found: dict[str, Program] = {}
    for kind in kinds:
        for folder in tools.folders:
            home = folder / "debian"
            if os.access(_mark(home, kind), os.R_OK) and (program := _program(kind, home / "root", account)):
                found.setdefault(kind.title, program)
    return found


def _program(kind: Kind, root: Path, account: Account | None) -> Program | None:
    libraries = tuple(path for where in LIBRARIES for path in sorted(root.glob(where)))
    return best(kind, programs_in(list(root.glob(kind.debian_folder)), kind, ORIGIN, account, libraries))


def _mark(home: Path, kind: Kind) -> Path:
    """Written when a package is unpacked completely: a program without it is half of one."""
    return home / f"{kind.debian_package}.unpacked"


def _fetch(kinds: Sequence[Kind], tools: Tools, run: Run) -> None:
    home = tools.home() / "debian"
    failure = home / "failed"
    with alone_in(home):
        kinds = [kind for kind in kinds if not _mark(home, kind).exists()]  # somebody else may have been faster
        if not kinds or _is_young(failure):
            return
        try:
            _download(kinds, home, run)
            _unpack(home, run)
        except Broken:
            failure.touch()
        else:
            for kind in kinds:
                _mark(home, kind).touch()
            failure.unlink(missing_ok=True)
        finally:
            shutil.rmtree(home / "state", ignore_errors=True)
            shutil.rmtree(home / "cache", ignore_errors=True)


def _is_young(path: Path) -> bool:
    return path.exists() and time.time() - path.stat().st_mtime < TRY_AGAIN_SECONDS


def _download(kinds: Sequence[Kind], home: Path, run: Run) -> None:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    packages = [kind.debian_package for kind in kinds]
    run(_step("apt-update", [*_apt_get(home), "update"]), STEP_SECONDS)
    run(_step("apt-download", [*_apt_get(home), "-y", "--download-only", "install", *packages]), STEP_SECONDS)


def _apt_get(home: Path) -> list[str]:
    options = OPTIONS | {
        "Dir::State": str(home / "state"),
        "Dir::Cache": str(home / "cache"),
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    return ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]


def _unpack(home: Path, run: Run) -> None:
    root = home / "root"
    root.mkdir(exist_ok=True)
    for package in sorted((home / "cache" / "archives").glob("*.deb")):
        run(_step("dpkg", ["dpkg", "-x", str(package), str(root)]), STEP_SECONDS)
    for folder in (home, root):
        folder.chmod(0o755)  # a strict umask of root would keep the servers' account out


def _step(name: str, command: Sequence[str]) -> Service:
    return Service(name=name, command=command, environment=dict(os.environ))
