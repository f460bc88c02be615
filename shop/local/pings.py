"""Is it ready? Asked in each server's own words. Each answers True, answers False or raises OSError for "not yet"."""

import http.client
import socket
from pathlib import Path

import psycopg

#: Seconds one question may take. On this machine an answer takes a millisecond; a server that hangs gives none.
PING_SECONDS = 2
#: Bytes that hold any of the answers.
ANSWER_BYTES = 256


def redis_answers(path: Path) -> bool:
    """PONG: up, and its data are loaded (before that it answers LOADING)."""
    return _ask(path, b"PING\r\n").startswith(b"+PONG")


def memcached_answers(path: Path) -> bool:
    return _ask(path, b"version\r\n").startswith(b"VERSION")


def postgresql_answers(url: str) -> bool:
    """A real connection and a real query: the socket alone is there long before recovery has finished."""
    try:
        with psycopg.connect(url, connect_timeout=PING_SECONDS) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.Error:
        return False


def http_answers(port: int, path: str, host: str) -> bool:
    """200 on the loopback address. http.client takes no notice of proxy variables, and it must not."""
    return _is_ok(http.client.HTTPConnection("127.0.0.1", port, timeout=PING_SECONDS), path, host)


def http_answers_on(unix_socket: Path, path: str, host: str) -> bool:
    """The same on a unix socket."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(PING_SECONDS)
        connected.connect(str(unix_socket))
        connection = http.client.HTTPConnection(host)
        connection.sock = connected
        return _is_ok(connection, path, host)


def _is_ok(connection: http.client.HTTPConnection, path: str, host: str) -> bool:
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status == http.client.OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def _ask(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PING_SECONDS)
        connection.connect(str(path))
        connection.sendall(question)
        return connection.recv(ANSWER_BYTES)
