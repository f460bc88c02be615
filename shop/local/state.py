"""The state folder: everything that `make up` remembers. Removing it forgets the shop and nothing else.

env          addresses of the running servers, KEY=value       redis-stock/ ...  data, one folder a server
secrets      generated keys, KEY=value, written once           pg-15/            PostgreSQL's, by major version
up.json      the processes that run now                        edge/             nginx: configuration, cache, pages
up.lock      held by the `up` that runs, with its pid          static/           files for browsers, collected
reloads      how many there were, and how the last one went    log/              one file a process
                                                               metrics/          numbers of the processes that run now
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shop.local.accounts import Account, can_reach, own_folder, shared_temp
from shop.local.refusal import Refusal

#: Each signs one kind of thing, so that a leak of one does not forge the others.
SECRET_NAMES = ("SECRET_KEY", "TICKET_KEYS", "BUYER_KEYS", "RECEIPT_KEYS", "PROVIDER_SECRET")
#: Bytes of randomness in a generated key: 384 bits, more than any of the signatures can use.
SECRET_BYTES = 48

#: Bytes of a unix socket's path: macOS takes 103 and a closing zero, Linux four more.
SOCKET_PATH_BYTES = 103
#: The longest name that a server gives its socket, with the slash before it.
LONGEST_SOCKET_NAME = "/.s.PGSQL.5432.lock"

#: Hex digits of the state's name in the temp folder: short for the socket limit, long enough to tell checkouts apart.
NAME_DIGITS = 10


class State:
    """One state folder. Raises Refusal with one clear line when it cannot be used."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.log = self.path / "log"
        self.ledger = self.path / "up.json"
        self.environment = self.path / "env"
        self.secrets = self.path / "secrets"
        self.metrics = self.path / "metrics"
        try:
            # Root hands the data folders below to another account, which has to be able to pass; it cannot look.
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            self.log.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise Refusal(f"the state folder {path} cannot be used: {error.strerror}") from error

    @property
    def name(self) -> str:
        """The same for every start on this folder, different for every other folder."""
        return "seckill-" + hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:NAME_DIGITS]

    def sockets(self, account: Account | None) -> Path:
        """The folder of the unix sockets: in the temp folder, because the path of a socket must be short."""
        folder = shared_temp() / self.name
        if len(os.fsencode(folder)) + len(LONGEST_SOCKET_NAME) > SOCKET_PATH_BYTES:
            raise Refusal(f"{folder} is too long a path for unix sockets: set TMPDIR to a shorter one")
        return own_folder(folder, account)

    def data_home(self, account: Account | None) -> Path:
        """Where data folders live: here, unless the account cannot come here (a checkout below root's home)."""
        if can_reach(account, self.path):
            return self.path
        return own_folder(shared_temp() / f"{self.name}-data", None, mode=0o711)

    def empty_metrics(self) -> Path:
        """The folder of what processes count, without the files of those that ran before."""
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir(mode=0o700)
        return self.metrics

    def remove(self) -> None:
        """Forget everything, after the servers have stopped."""
        for folder in (self.path, shared_temp() / self.name, shared_temp() / f"{self.name}-data"):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only `up` on this state. Whoever comes second hears who was first."""
        with (self.path / "up.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise Refusal(f"already running on {self.path}, as process {lock.read().strip()}") from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def holder(self) -> int | None:
        """The process of the `up` that runs on this state; None when there is none."""
        try:
            with (self.path / "up.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int((self.path / "up.lock").read_text())
        except FileNotFoundError:
            return None
        return None

    def generated_secrets(self) -> dict[str, str]:
        """The keys of this shop: made once, completed when a new one is needed, never changed."""
        known = read_values(self.secrets)
        missing = {name: secrets.token_urlsafe(SECRET_BYTES) for name in SECRET_NAMES if not known.get(name)}
        if missing:
            known |= missing
            write_values(self.secrets, known)
        return known


def read_values(path: Path) -> dict[str, str]:
    """The KEY=value lines of a file; none when there is no file."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from error
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def write_values(path: Path, values: Mapping[str, str]) -> None:
    """Replace the file by KEY=value lines that only its owner can read."""
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise Refusal(f"{name} contains a line break")
    write_whole(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def write_whole(path: Path, text: str) -> None:
    """Replace a file at once: whoever reads it sees the old text or the new one, also after a crash between."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise Refusal(f"{path} cannot be written: {error.strerror}") from error
