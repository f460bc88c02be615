"""Servers for one run of the tests: started before Django reads its settings, gone with all their data afterwards.

Loaded by `-p tests.servers`. Neither a running `make up` nor the variables of the developer's shell are used.
"""

import atexit
import os
import secrets
import signal
import time
from collections.abc import Generator
from contextlib import ExitStack, suppress

import pytest

from shop.local.accounts import shared_temp
from shop.local.refusal import Broken, Refusal
from shop.local.servers import SERVERS, Running, start_all
from shop.local.state import SECRET_NAMES, State
from shop.local.supervisor import Supervisor

PREFIX = "seckill-test-"
#: A state folder younger than this may belong to a run that goes on: its tests keep folders that they do not lock.
STALE_SECONDS = 3600

#: Seeds of a run's random choices: short enough to be typed again.
SEEDS = 1_000_000

#: What decides where this project finds its servers, keys and ports. A process that shall have its own starts without.
OWN_VARIABLES = {
    *(told.variable for told, _ in SERVERS.values()),
    *SECRET_NAMES,
    *("PROFILE", "STATE", "HTTPS", "ALLOWED_HOSTS", "RATE_LIMIT_EXEMPT", "DATABASE_POOL", "LEVEL", "MAKELEVEL"),
    *(
        "PORT",
        "WORKERS",
        "LAN",
        "EDGE",
        "SHOP_URL",
        "PROVIDER_URL",
        "PROVIDER_HOST",
        "PROVIDER_PORT",
        "WORKER_READY_FILE",
    ),
}

#: What the tests see besides the servers and keys. Nobody listens at the provider's address.
TEST_VARIABLES = {
    "PROFILE": "test",
    "SHOP_URL": "http://testserver",
    "PROVIDER_URL": "http://127.0.0.1:1",
    "RATE_LIMIT_EXEMPT": "127.0.0.0/8,::1/128",  # where the tests' clients come from
}


def clean_environment() -> dict[str, str]:
    """The environment without anything of this project in it: what a newcomer's shell has."""
    return {
        name: value for name, value in os.environ.items() if name not in OWN_VARIABLES and not name.startswith("PG")
    }


class ServersOfThisRun:
    """Started at most once; stopped by whoever comes first, the end of pytest or the end of Python."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._owner = os.getpid()
        self.running: Running | None = None

    def start(self) -> None:
        """Raises Refusal or Broken with nothing left behind."""
        atexit.register(self.stop)
        state = State(shared_temp() / f"{PREFIX}{secrets.token_hex(4)}")
        self._open.callback(state.remove)
        self._open.enter_context(state.locked())
        self.running = start_all(state, say=lambda _: None, durable=False, environ=clean_environment())
        self._open.callback(self.running.stop)
        _replace_environment({"STATE": str(state.path), **self.running.environment, **state.generated_secrets()})

    def stop(self) -> None:
        if os.getpid() == self._owner:  # a forked child that ends must not take the servers with it
            self._open.close()


def _replace_environment(values: dict[str, str]) -> None:
    clean = clean_environment()
    os.environ.clear()
    os.environ.update(clean | TEST_VARIABLES | values)


def remove_what_killed_runs_left() -> None:
    """Stop the servers of test runs that were killed, and remove their data."""
    for folder in shared_temp().glob(f"{PREFIX}*"):
        with suppress(Refusal, OSError):  # it belongs to somebody else, or its run goes on
            if time.time() - folder.stat().st_mtime < STALE_SECONDS:
                continue
            state = State(folder)
            with state.locked():
                Supervisor(state).stop_left_over()
            state.remove()


SERVERS_KEY = pytest.StashKey[ServersOfThisRun]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """A wrapper comes before pytest-django, which reads the settings in this very hook."""
    os.environ.setdefault("SEED", str(secrets.randbelow(SEEDS)))  # here, so that all processes of a run have one
    servers = early_config.stash[SERVERS_KEY] = ServersOfThisRun()
    remove_what_killed_runs_left()
    # All of them end like Ctrl-C, which stops the servers; a run in the background was told not to hear Ctrl-C itself.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        servers.start()
    except (Refusal, Broken) as error:
        servers.stop()
        raise pytest.UsageError(str(error)) from error
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SERVERS_KEY].stop()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Running:
    """The servers of this run: their addresses and pids."""
    running = pytestconfig.stash[SERVERS_KEY].running
    assert running is not None
    return running
