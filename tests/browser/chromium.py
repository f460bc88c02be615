"""A Chromium for the tests: found as the shop's servers are, on PATH, else as a private copy of Debian's package."""

import os
import tempfile
from pathlib import Path
from typing import Any

from shop.local.debian import private_copies
from shop.local.programs import Kind, Program, on_this_machine
from shop.local.state import State
from shop.local.supervisor import Supervisor
from shop.local.tools import CHECKOUT, Tools

CHROMIUM = Kind(
    title="Chromium",
    commands=("chromium", "chromium-browser", "google-chrome"),
    oldest={"Chromium": (120,), "Google": (120,)},
    debian_package="chromium",
    debian_folder="usr/lib/chromium",  # the program itself: the script in usr/bin looks for it below /usr
    install={},
    needed=False,
)
#: Beside the servers' copies and not among them: its two hundred packages (205 MB) are nobody else's business.
HOME = CHECKOUT / ".tools" / "chromium"
#: Its own sandbox needs rights that containers lack, and nothing here opens a page that is not ours.
ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage")
#: Said where there is none.
MISSING = "no Chromium on PATH, and Debian's package could not be fetched: apt-get install chromium"


def find() -> Program | None:
    return on_this_machine(CHROMIUM, None, os.environ) or _private_copy()


def _private_copy() -> Program | None:
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="seckill-chromium-") as folder:
        state = State(Path(folder))
        with state.locked():
            errands = Supervisor(state, lambda _: None)
            return private_copies([CHROMIUM], Tools(state, None, HOME), None, errands.run).get(CHROMIUM.title)


def launch(playwright: Any, program: Program) -> Any:
    """A browser of it that playwright drives."""
    return playwright.chromium.launch(
        executable_path=program.path, args=ARGUMENTS, env={**os.environ, **_environment(program)}
    )


def _environment(program: Program) -> dict[str, str]:
    """A private copy finds its libraries and its fonts' settings nowhere else."""
    if not program.libraries:
        return {}
    return {**program.environment, "FONTCONFIG_PATH": str(program.path.parents[3] / "etc/fonts")}
