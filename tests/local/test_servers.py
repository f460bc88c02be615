"""The servers themselves: who runs them, who can reach them, what they keep, and those that others run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from shop.local.accounts import service_account, shared_temp
from shop.local.given import ask_memcached
from shop.local.refusal import Refusal
from shop.local.servers import SERVERS, Running, start_all
from shop.local.state import State
from tests.local.conftest import CHECKOUT, lives
from tests.servers import clean_environment

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands its servers to another account")


def quiet(_: str) -> None:
    """Nobody reads along."""


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def started(state: State, **variables: str) -> Running:
    return start_all(state, quiet, durable=False, environ={**clean_environment(), **variables})


@as_root
def test_servers_of_root_run_as_a_harmless_account(servers: Running) -> None:
    """PostgreSQL and memcached refuse root; Redis had better."""
    account = service_account()
    assert account is not None
    for name in SERVERS:
        assert owner(servers.pid(name)) == account.uid != 0


def test_servers_listen_on_sockets_only(servers: Running) -> None:
    """No port is taken, and none can be found from outside."""
    stock = redis.Redis.from_url(servers.environment["STOCK_REDIS_URL"])
    assert stock.config_get("port") == {"port": "0"}
    with psycopg.connect(servers.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_only_the_owner_comes_to_the_sockets(servers: Running) -> None:
    """There is no password: the closed folder is the lock."""
    folder = Path(servers.environment["MEMCACHED_URL"].removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) >= len(SERVERS)


def test_each_redis_has_its_character(servers: Running) -> None:
    """Stock never forgets, the broker never evicts, the cache may forget everything."""

    def config(variable: str, *names: str) -> list[str | None]:
        url = servers.environment[variable].replace("redis+socket", "unix").replace("virtual_host", "db")
        known = redis.Redis.from_url(url).config_get(*names)
        return [known[name] for name in names]

    assert config("STOCK_REDIS_URL", "appendonly", "appendfsync", "maxmemory-policy", "save") == [
        *("yes", "always", "noeviction", "")
    ]
    assert config("BROKER_URL", "appendonly", "maxmemory-policy", "save") == ["no", "noeviction", ""]
    assert config("CACHE_REDIS_URL", "appendonly", "maxmemory-policy", "maxmemory") == [
        *("no", "volatile-lru", str(256 * 1024 * 1024))
    ]


def test_a_second_start_finds_the_data_of_the_first(state: State) -> None:
    """Also when the mode of the data folder was changed meanwhile, which PostgreSQL would refuse."""
    running = started(state)
    redis.Redis.from_url(running.environment["STOCK_REDIS_URL"]).set("kept", "yes")
    with psycopg.connect(running.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    running.stop()
    [data] = state.path.glob("pg-*")
    data.chmod(0o755)

    running = started(state)

    assert redis.Redis.from_url(running.environment["STOCK_REDIS_URL"]).get("kept") == b"yes"
    with psycopg.connect(running.environment["DATABASE_URL"]) as connection:
        connection.execute("SELECT * FROM kept")
        assert data.name == f"pg-{connection.info.server_version // 10_000}"
    running.stop()


def test_the_stop_does_not_wait_for_clients(state: State) -> None:
    """A forgotten terminal with psql in it would hold PostgreSQL for ever after TERM."""
    running = started(state)
    pids = [running.pid(name) for name in SERVERS]
    with psycopg.connect(running.environment["DATABASE_URL"]) as client:
        start = time.monotonic()
        running.stop()
        seconds = time.monotonic() - start
        client.close()

    assert seconds < 5
    assert not any(lives(pid) for pid in pids)


def test_a_killed_postgresql_comes_back_with_its_data(state: State) -> None:
    """Its children still hold the shared memory for a moment, which is why it may take more than one restart."""
    code = (
        "import sys; from shop.local.servers import start_all; from shop.local.state import State;"
        "running = start_all(State(sys.argv[1])); print(running.pid('postgresql'), flush=True);"
        "running.supervisor.watch()"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(state.path)],
        cwd=CHECKOUT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    pid = next(int(line) for line in lines if line.strip().isdigit())

    os.kill(pid, signal.SIGKILL)

    assert any("!!! postgresql was ended by signal 9" in line for line in lines)
    assert any("postgresql is back" in line for line in lines)
    process.kill()
    process.communicate()


# --- servers that others run


def test_a_told_server_is_used_and_not_started(state: State, servers: Running) -> None:
    """Its URL in the environment is all it takes; the others are started."""
    running = started(state, **{name: servers.environment[name] for name in ("DATABASE_URL", "BROKER_URL")})
    try:
        assert running.environment["DATABASE_URL"] == servers.environment["DATABASE_URL"]
        assert running.environment["STOCK_REDIS_URL"] != servers.environment["STOCK_REDIS_URL"]
        assert not list(state.path.glob("pg-*"))
        with pytest.raises(KeyError):
            running.pid("postgresql")
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgresql://shop:hush@127.0.0.1:1/shop"),
        ("DATABASE_URL", "no url at all"),
        ("STOCK_REDIS_URL", "redis://:hush@127.0.0.1:1/0"),
        ("CACHE_REDIS_URL", "unix:///nowhere.sock?db=0"),
        ("BROKER_URL", "redis+socket:///nowhere.sock?virtual_host=0"),
        ("BROKER_URL", "amqp://guest:hush@127.0.0.1:1//"),
        ("MEMCACHED_URL", "127.0.0.1:1"),
        ("MEMCACHED_URL", "127.0.0.1:1,127.0.0.1:2"),
        ("MEMCACHED_URL", " , "),
    ],
)
def test_a_told_server_that_answers_nothing_is_one_clear_line(state: State, variable: str, url: str) -> None:
    """With the variable to look at, without the password in it, and with nothing started."""
    with pytest.raises(Refusal, match=f"^{variable} answers nothing: .+$") as refusal:
        started(state, **{variable: url})

    assert "hush" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(state.path.glob("redis-*"))


def test_memcached_may_have_several_nodes(servers: Running) -> None:
    """Each of them has to answer."""
    node = servers.environment["MEMCACHED_URL"]

    assert re.fullmatch(r"memcached \S+ on 2 nodes", ask_memcached(f"{node}, {node}"))
    with pytest.raises(ConnectionRefusedError):
        ask_memcached(f"{node},127.0.0.1:1")


def test_memcached_can_be_turned_off(state: State, servers: Running) -> None:
    """An empty URL: two cache tiers remain, and the line says so."""
    told = {name: url for name, url in servers.environment.items() if name != "MEMCACHED_URL"}
    lines: list[str] = []

    running = start_all(state, lines.append, environ={**clean_environment(), **told, "MEMCACHED_URL": ""})

    assert running.environment["MEMCACHED_URL"] == ""
    assert any("the second cache tier is off" in line for line in lines)
    running.stop()


@as_root
def test_an_ordinary_user_needs_nothing_from_root() -> None:
    """All five servers start as `nobody`, in a folder of its own."""
    code = """
import os, pathlib, sys, shop.local.servers, encodings.idna, psycopg
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
from shop.local.state import State
state = State(pathlib.Path(sys.argv[1]))
running = shop.local.servers.start_all(state, durable=False)
uids = {pathlib.Path(f"/proc/{running.pid(name)}").stat().st_uid for name in shop.local.servers.SERVERS}
running.stop(); state.remove()
print("uids", uids)
"""
    path = shared_temp() / f"seckill-test-user-{os.getpid()}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=CHECKOUT, env=clean_environment(), capture_output=True, text=True
    )
    assert "uids {65534}" in done.stdout, done.stderr
