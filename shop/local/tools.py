"""Where fetched programs live: in the checkout, fetched once for all states; elsewhere if that cannot be used."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shop.local.accounts import Account, can_reach
from shop.local.state import State

CHECKOUT = Path(__file__).resolve().parents[2]


class Tools:
    """Folders that may hold fetched programs, the one of the checkout first."""

    def __init__(self, state: State, account: Account | None, checkout: Path = CHECKOUT) -> None:
        self._account = account
        self.folders = [checkout / ".tools", state.data_home(account) / "tools"]

    def home(self) -> Path:
        """The folder for something new: writable for us, and open to the account that will run it."""
        for folder in self.folders[:-1]:
            with suppress(OSError):
                folder.mkdir(mode=0o755, exist_ok=True)
            if os.access(folder, os.W_OK) and can_reach(self._account, folder):
                return folder
        self.folders[-1].mkdir(mode=0o755, exist_ok=True)
        return self.folders[-1]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait for others who fetch into this folder: parallel starts must not unpack over each other."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
