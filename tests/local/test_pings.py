"""Readiness, asked by protocol: what counts as an answer and what does not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from shop.local.pings import http_answers, memcached_answers, postgresql_answers, redis_answers
from shop.local.servers import Running
from shop.local.service import Service


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Something that listens on a unix socket and says this once."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(64)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("ask", "answer", "ready"),
    [
        (redis_answers, b"+PONG\r\n", True),
        (redis_answers, b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (redis_answers, b"", False),
        (memcached_answers, b"VERSION 1.6.18\r\n", True),
        (memcached_answers, b"ERROR\r\n", False),
    ],
)
def test_a_server_is_ready_when_it_says_so(
    tmp_path: Path, ask: Callable[[Path], bool], answer: bytes, ready: bool
) -> None:
    """A socket that accepts is not an answer, and a Redis that still loads its data is not ready."""
    with answering(tmp_path / "s", answer):
        assert ask(tmp_path / "s") is ready


def test_postgresql_is_ready_after_a_real_query(servers: Running) -> None:
    """And not while nobody is there."""
    assert postgresql_answers(servers.environment["DATABASE_URL"])
    assert not postgresql_answers("postgresql://shop@/shop?host=/nowhere")


def test_a_service_without_a_socket_is_not_ready_yet(tmp_path: Path) -> None:
    """The file appears when the server has started: until then there is nothing to connect to."""
    service = Service(name="redis", command=[], is_ready=lambda: redis_answers(tmp_path / "s"))
    assert service.ready() is False


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Host"] == "shop.example" and self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is written to the terminal."""


def test_http_readiness_takes_no_notice_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy cannot reach this machine's loopback address; 503 means not yet."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert http_answers(server.server_port, "/readyz", "shop.example")
        assert not http_answers(server.server_port, "/", "shop.example")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
