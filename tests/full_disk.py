"""A disk that is full for one process: no file of it may grow past a limit. Linux only, and without root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shop.local.accounts import Account, as_account

needs_file_limits = pytest.mark.skipif(not shutil.which("prlimit"), reason="no prlimit on this machine")


@contextmanager
def no_file_beyond(size: int, pid: int, account: Account | None = None) -> Iterator[None]:
    """Writes past so many bytes fail with EFBIG, where those to a full disk fail with ENOSPC.

    The account is that of the process: root, too, may lack the right to limit another's.
    """
    _limit(pid, str(size), account)
    try:
        yield
    finally:
        _limit(pid, "unlimited", account)


def _limit(pid: int, size: str, account: Account | None) -> None:
    # The soft limit alone: a hard one could not be lifted again.
    asked = subprocess.run(
        ["prlimit", "--pid", str(pid), f"--fsize={size}:"], **as_account(account), capture_output=True, text=True
    )
    gone = "No such process" in asked.stderr
    assert asked.returncode == 0 or gone, asked.stderr
