"""Ports for servers of tests, several of which may run at the same time."""

import socket
from random import SystemRandom

#: Below the ports that Linux and macOS lend to clients: those may be taken at any moment by anybody who connects.
FIRST, LAST = 20_000, 30_000


def free_port() -> int:
    """One that nobody uses now; drawn, because another test process asks at the same time."""
    while True:
        port = SystemRandom().randrange(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
