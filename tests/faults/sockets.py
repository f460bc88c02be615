"""Addresses on this machine, and the few things a proxy does to sockets."""

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

#: The path of a unix socket, or host and port.
Address = str | tuple[str, int]

#: SO_LINGER on, for zero seconds: close() sends a reset. Without effect on unix sockets.
AT_ONCE = struct.pack("ii", 1, 0)


def local(address: Address | Path) -> Address:
    """The address, if it cannot belong to another machine. Raises ValueError otherwise."""
    if isinstance(address, tuple):
        if not ip_address(address[0]).is_loopback:
            raise ValueError(f"{address[0]} is not a loopback address")
        return address
    if not Path(address).is_absolute():
        raise ValueError(f"{str(address)!r} is neither an absolute path nor (host, port)")
    return str(address)


def shown(address: Address) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def bound(address: Address) -> socket.socket:
    """A socket that has the address and does not listen: until it does, who connects is refused.

    The path of a unix socket is replaced, so that there is no moment at which it is missing.
    """
    sock = _unblocked(address)
    try:
        if isinstance(address, str):
            aside = Path(f"{address}~")
            sock.bind(str(aside))
            aside.replace(address)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def connecting(address: Address) -> socket.socket:
    """A socket on its way to the address. If it does not get there, the first recv() raises."""
    sock = _unblocked(address)
    sock.connect_ex(address)
    return sock


def _unblocked(address: Address) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    unhindered(sock)
    return sock


def unhindered(sock: socket.socket) -> None:
    """Never blocks, and never waits for more before it sends."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def end(sock: socket.socket, *, reset: bool) -> None:
    """Close with a reset, or so that the other side reads all that was sent and then the end."""
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    else:
        with suppress(OSError):  # it never was connected, or the other side has gone
            sock.shutdown(socket.SHUT_WR)  # close() alone would reset a connection with something unread
    sock.close()
