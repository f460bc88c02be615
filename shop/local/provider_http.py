"""HTTP/1.1 for the provider: reads a request within limits, sends an answer, never shows a traceback.

The body is always read before anything is answered: bytes left unread in the socket would be taken for the
next request, or turn the answer into a reset.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from .provider_requests import BadValue, Refusal
from .provider_signature import HEADER

#: Bytes of a body: a charge is below 2 kB, its addresses included.
MAX_BODY_BYTES = 64 * 1024

#: Bytes of a body too large that are still read, so that its sender gets to hear 413 and not a reset.
MAX_DISCARDED_BYTES = 1024 * 1024

#: Seconds a client may keep silent, within a request or between two.
IDLE_SECONDS = 10

#: Seconds until a server that is asked to stop notices.
STOP_SECONDS = 0.1

#: Connections at once; each costs a thread. One more is closed at once.
MAX_CONNECTIONS = 512

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    signature: str
    body: bytes

    def json(self) -> object:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise BadValue("the body is not JSON") from None


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, values: dict[str, Any], **headers: str) -> Self:
        return cls(status, json.dumps(values).encode(), {"Content-Type": "application/json", **headers})

    @classmethod
    def error(cls, status: int, why: str, **headers: str) -> Self:
        return cls.json(status, {"error": why}, **headers)


class Server(ThreadingHTTPServer):
    """Serves one function from requests to answers."""

    daemon_threads = True  # what they still do at the end is in the books, or was not promised to anybody
    request_queue_size = 128
    allow_reuse_port = True  # `make up` keeps the port from everybody else, also while this process is dead

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], Answer]) -> None:
        super().__init__(address, Handler)
        self.answer = answer
        self._free_connections = threading.Semaphore(MAX_CONNECTIONS)

    def serve_forever(self, poll_interval: float = STOP_SECONDS) -> None:
        super().serve_forever(poll_interval)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._free_connections.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that hangs up is not an error of ours
            logger.exception("a connection failed")


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # in Python's 0.9 an error would have no status line
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True  # head and body are two writes; the second must not wait for an ACK

    def answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif not re.fullmatch("[0-9]{1,15}", length):
            self.send_error(HTTPStatus.BAD_REQUEST, "bad Content-Length")
        elif int(length) > MAX_BODY_BYTES:
            self.rfile.read(min(int(length), MAX_DISCARDED_BYTES))
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._send(self._answer(self.rfile.read(int(length))))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _answer(self, body: bytes) -> Answer:
        path = self.path.partition("?")[0]
        method = "GET" if self.command == "HEAD" else self.command
        try:
            return self.server.answer(Request(method, path, self.headers.get(HEADER, ""), body))
        except Refusal as refusal:
            return Answer.error(refusal.status, str(refusal))
        except Exception:
            logger.exception("%s %s failed", self.command, path)
            return Answer.error(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What cannot be read as a request is answered in JSON, too, and ends the connection."""
        self.close_connection = True
        self._send(Answer.error(code, message or HTTPStatus(code).phrase))

    def version_string(self) -> str:
        return "ExamplePay"

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
