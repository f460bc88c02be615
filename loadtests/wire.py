"""A kept connection to a web server, as cheap as it gets: bytes out, an answer in. Under Locust, gevent waits."""

import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.contenders.overload.open_loop import PATIENCE_SECONDS, PORTION_BYTES, is_whole


class Lost(Exception):
    """No answer in time, or a connection that broke."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, looked up once: a thousand clients must not ask the resolver a thousand times."""

    host: str
    address: tuple[str, int]
    secure: bool

    @classmethod
    def of(cls, url: str) -> "Place":
        """Raises OSError for a name that nobody knows, ValueError for what is no address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no address like http://shop.example:8000")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, socket.AF_INET, socket.SOCK_STREAM)
        return cls(parts.netloc, found[0][4][:2], parts.scheme == "https")  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first of that name, given in small letters."""
        at = self.head.lower().find(b"\r\n" + name + b":")
        if at < 0:
            return None
        return self.head[at + len(name) + 3 :].partition(b"\r\n")[0].strip().decode("latin-1")

    def json(self) -> dict[str, Any]:
        """The body's fields; none when it is no JSON object."""
        try:
            read = json.loads(
                _unchunked(self.body) if b"transfer-encoding: chunked" in self.head.lower() else self.body
            )
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}


class Wire:
    def __init__(self, place: Place, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._place = place
        self._patience_seconds = patience_seconds
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Answer:
        """Raises Lost. A kept connection that its server had closed meanwhile is opened anew, once, as browsers do."""
        kept = self._socket is not None
        try:
            return self._exchange(request)
        except _Closed as closed:
            if not kept:
                raise Lost("closed") from closed
        try:
            return self._exchange(request)
        except _Closed as closed:
            raise Lost("closed") from closed

    def connect(self) -> None:
        """Raises Lost."""
        if self._socket is None:
            try:
                self._socket = self._connected()
            except OSError as error:
                raise Lost(str(error)) from error

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: bytes) -> Answer:
        self.connect()
        assert self._socket is not None
        came = b""
        try:
            self._socket.sendall(request)
            while not is_whole(came):
                portion = self._socket.recv(PORTION_BYTES)
                if not portion:
                    raise ConnectionResetError("closed")
                came += portion
        except TimeoutError as error:
            self.close()
            raise Lost("no answer in time") from error
        except OSError as error:
            self.close()
            raise Lost(str(error)) if came else _Closed from error
        head, _, body = came.partition(b"\r\n\r\n")
        answer = Answer(int(head[9:12]), head, body)
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return answer

    def _connected(self) -> socket.socket:
        made: socket.socket = socket.create_connection(self._place.address, timeout=self._patience_seconds)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._place.secure:
            made = ssl.create_default_context().wrap_socket(made, server_hostname=self._place.host.partition(":")[0])
        return made


class _Closed(Exception):
    """The server closed the connection before it had answered anything."""


def request(method: str, path: str, place: Place, cookie: str = "", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {place.host}"]
    lines += [f"Cookie: buyer={cookie}"] if cookie else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16)
        if not length:
            break
        whole, body = whole + rest[:length], rest[length + 2 :]
    return whole
