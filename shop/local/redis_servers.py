"""Three Redis processes with three characters: one never forgets, one only passes on, one may forget everything."""

from collections.abc import Mapping
from pathlib import Path

from shop.local.accounts import Account, own_folder
from shop.local.pings import redis_answers
from shop.local.programs import Program
from shop.local.service import Service

#: Counters, holds, events: written to disk before they are answered, and never thrown away for want of memory. The
#: log is not rewritten behind the shop's back in the middle of a sale.
STOCK = {
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",
    "maxmemory-policy": "noeviction",
}
#: Celery's doorbells: losing one is harmless, evicting one is not meant.
BROKER = {"appendonly": "no", "maxmemory-policy": "noeviction"}
#: The third cache tier. 256 MB: the demo needs five; a load test must meet eviction and not the machine's end.
CACHE = {"appendonly": "no", "maxmemory-policy": "volatile-lru", "maxmemory": "256mb"}

CHARACTERS: Mapping[str, Mapping[str, str]] = {
    "redis-stock": STOCK,
    "redis-broker": BROKER,
    "redis-cache": CACHE,
}


def url(socket: Path) -> str:
    return f"unix://{socket}?db=0"


def broker_url(socket: Path) -> str:
    return f"redis+socket://{socket}?virtual_host=0"


def socket_path(name: str, sockets: Path) -> Path:
    return sockets / f"{name}.sock"


def service(name: str, program: Program, home: Path, sockets: Path, account: Account | None) -> Service:
    socket = socket_path(name, sockets)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(own_folder(home / name, account)),
        "save": "",
        **CHARACTERS[name],
    }
    return Service(
        name=name,
        command=[
            str(program.path),
            *(word for key, value in options.items() for word in (f"--{key}", value)),
        ],
        environment=program.environment,
        account=account,
        is_ready=lambda: redis_answers(socket),
        is_server=True,
        socket=socket,
    )
