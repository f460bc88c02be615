"""Servers that somebody else runs: told by a URL in the environment, asked once whether they answer."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import redis

from shop.local.pings import ANSWER_BYTES, PING_SECONDS
from shop.local.refusal import Refusal

MEMCACHED_PORT = 11_211
AMQP_PORT = 5_672


def check(variable: str, url: str, ask: Callable[[str], str]) -> str:
    """What the server at the URL calls itself. Raises Refusal when it answers nothing; never repeats the URL,
    which may hold a password."""
    try:
        return ask(url)
    except Exception as error:  # four client libraries, each with its own ways to say "nobody there"
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise Refusal(f"{variable} answers nothing: {reason}") from error


def ask_postgresql(url: str) -> str:
    with psycopg.connect(url, connect_timeout=PING_SECONDS) as connection:
        connection.execute("SELECT 1")
        return f"PostgreSQL {connection.info.parameter_status('server_version')}"


def ask_redis(url: str) -> str:
    client = redis.Redis.from_url(url, socket_timeout=PING_SECONDS, socket_connect_timeout=PING_SECONDS)
    with client:
        about = client.info("server")
    return f"Redis {about['redis_version']}"


def ask_broker(url: str) -> str:
    """Redis, or anything that listens where RabbitMQ would."""
    parts = urlsplit(url)
    if parts.scheme.startswith("redis"):
        return ask_redis(f"unix://{parts.path}" if parts.scheme == "redis+socket" else url)
    with socket.create_connection((parts.hostname or "", parts.port or AMQP_PORT), timeout=PING_SECONDS):
        return "a broker"


def ask_memcached(urls: str) -> str:
    """One node, or several with commas between them: each has to answer."""
    nodes = [url.strip() for url in urls.split(",") if url.strip()]
    if not nodes:
        raise ValueError("it names no server")
    names = dict.fromkeys(_ask_node(url) for url in nodes)
    return ", ".join(names) + (f" on {len(nodes)} nodes" if len(nodes) > 1 else "")


def _ask_node(url: str) -> str:
    with _memcached_socket(url) as connection:
        connection.sendall(b"version\r\n")
        answer = connection.recv(ANSWER_BYTES).decode(errors="replace").split()
    if len(answer) != 2 or answer[0] != "VERSION":
        raise ValueError("what answers is no memcached")
    return f"memcached {answer[1]}"


def _memcached_socket(url: str) -> socket.socket:
    parts = urlsplit(url if "://" in url else f"memcached://{url}")
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PING_SECONDS)
        connection.connect(parts.path)
        return connection
    return socket.create_connection((parts.hostname or "", parts.port or MEMCACHED_PORT), timeout=PING_SECONDS)


@dataclass(frozen=True)
class Given:
    variable: str
    ask: Callable[[str], str]


DATABASE = Given("DATABASE_URL", ask_postgresql)
STOCK_REDIS = Given("STOCK_REDIS_URL", ask_redis)
CACHE_REDIS = Given("CACHE_REDIS_URL", ask_redis)
BROKER = Given("BROKER_URL", ask_broker)
MEMCACHED = Given("MEMCACHED_URL", ask_memcached)
