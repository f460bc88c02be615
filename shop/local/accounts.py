"""Who runs the database servers: the person who typed `make up`, or a harmless account when that person is root."""

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shop.local.refusal import Refusal

#: Accounts that root hands the servers to, best first. PostgreSQL refuses to run as root; the others had better not.
HARMLESS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def popen(self) -> dict[str, Any]:
        """Arguments that make Popen start a process as this account, without the caller's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def service_account() -> Account | None:
    """The account that servers are handed to; None when they simply run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in HARMLESS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise Refusal("this is root, and there is no account `postgres` or `nobody` to run the database servers as")


def as_account(account: Account | None) -> dict[str, Any]:
    return account.popen if account else {}


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether the account may pass through every folder down to the path, and read and enter the path itself."""
    if account is None:
        return os.access(path, os.R_OK | os.X_OK)
    path = path.resolve()
    return all(_may_enter(account, folder) for folder in (path, *path.parents))


def _may_enter(account: Account, path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def own_folder(path: Path, account: Account | None, mode: int = 0o700) -> Path:
    """Make the folder (or take it over, when it is ours) for the account alone.

    A folder in the shared temp folder may have been put there by anybody: one that belongs to somebody else, or that
    is a link, is refused.
    """
    ours = {os.geteuid(), account.uid if account else os.geteuid()}
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
            raise Refusal(f"{path} belongs to somebody else: remove it, or choose another STATE")
        if account:
            os.chown(path, account.uid, account.gid)
        path.chmod(mode)
    except OSError as error:
        raise Refusal(f"{path} cannot be used: {error.strerror}") from error
    return path


def shared_temp() -> Path:
    return Path(tempfile.gettempdir()).resolve()
