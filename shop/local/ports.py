"""The TCP ports of the shop and the provider, and the address under which a phone finds them."""

import errno
import socket

from shop.local.refusal import Refusal

LAST_PORT = 65_535
#: Ports below this one may be reserved for root.
FIRST_FREE_FOR_ALL = 1_024
#: Ports tried after a busy one: more would not be found by the person who looks for the shop.
PORTS_TRIED = 50
#: An address that belongs to nobody (TEST-NET-1). Connecting a UDP socket sends nothing; it only picks a way out.
NOWHERE = ("192.0.2.1", 9)


def port_number(name: str, text: str) -> int:
    """A port from a variable. Raises Refusal when it is none."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_PORT):
        raise Refusal(f"{name} must be a port from 1 to {LAST_PORT}, not {text!r}")
    return int(text)


class HeldPort:
    """The first free port from the wanted one on, kept from everybody else as long as this process lives.

    It has to be held listening at first: granian shares a port with whoever listens on it (SO_REUSEPORT), and two shops
    on one port would answer in turns.
    """

    def __init__(self, host: str, wanted: int) -> None:
        for number in range(wanted, min(wanted + PORTS_TRIED, LAST_PORT + 1)):
            if held := _listen(host, number):
                self.number = number
                self._socket = held
                return
        raise Refusal(f"no free port from {wanted} on: choose another PORT")

    def share(self) -> None:
        """Let a process of ours listen, now and after each of its deaths: one that says SO_REUSEPORT, too.

        Raises Refusal when somebody took the port in the instant between.
        """
        host = self._socket.getsockname()[0]
        self._socket.close()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind((host, self.number))
        except OSError as error:
            raise Refusal(f"port {self.number} cannot be used: {error.strerror}") from error

    def release(self) -> None:
        self._socket.close()


def _listen(host: str, number: int) -> socket.socket | None:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may still be closing
    try:
        held.bind((host, number))
        held.listen()
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise Refusal(f"port {number} cannot be used: {error.strerror}") from error
    return held


def address_in_the_lan() -> str:
    """The address of this machine that others on its network can use; loopback when there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(NOWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
