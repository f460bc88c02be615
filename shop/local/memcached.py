"""memcached, the second cache tier. Without it the shop goes on with two tiers."""

import signal
from pathlib import Path

from shop.local.accounts import Account
from shop.local.pings import memcached_answers
from shop.local.programs import Program
from shop.local.service import Service

#: Megabytes of memory: a hundred times what the demo caches.
MEMORY_MB = 128


def url(socket: Path) -> str:
    return f"unix://{socket}"


def socket_path(sockets: Path) -> Path:
    return sockets / "memcached.sock"


def service(program: Program, sockets: Path, account: Account | None) -> Service:
    socket = socket_path(sockets)
    return Service(
        name="memcached",
        command=[str(program.path), "-m", str(MEMORY_MB), "-s", str(socket), "-a", "0700"],
        environment=program.environment,
        account=account,
        is_ready=lambda: memcached_answers(socket),
        stop_signal=signal.SIGKILL,  # TERM takes it most of a second, and it has nothing to save
        is_server=True,
        socket=socket,
    )
