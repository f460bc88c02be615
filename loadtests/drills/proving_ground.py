"""A whole shop with a fault proxy before each server it depends on: what a drill may break, and how."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import redis

from loadtests.own_shop import OwnShop, own_shop
from loadtests.wire import Place, Wire, request
from shop.local.accounts import shared_temp
from shop.local.provider_signature import HEADER, sign
from shop.local.servers import Running, start_all
from shop.local.state import State
from shop.local.stopping import SIGNALS
from shop.local.supervisor import Supervisor
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import Fault
from tests.faults.proxied_shop import proxy_before, url_behind
from tests.servers import PREFIX, clean_environment

#: A server of the shop -> the variable that says where it is.
SERVERS = {
    "postgresql": "DATABASE_URL",
    "redis-stock": "STOCK_REDIS_URL",
    "redis-cache": "CACHE_REDIS_URL",
    "redis-broker": "BROKER_URL",
    "memcached": "MEMCACHED_URL",
}


class ProvingGround:
    """The shop, its servers by name, and the verbs with which they are broken."""

    def __init__(self, shop: OwnShop, servers: Running, proxies: Mapping[str, FaultProxy]) -> None:
        self.shop = shop
        self.proxies = proxies
        self._servers = servers
        #: The addresses of the servers themselves: whoever judges does not look through a broken glass.
        self.direct = servers.environment

    def pid(self, name: str) -> int:
        return self._servers.pid(name) if name in SERVERS else self.shop.pid(name)

    def kill(self, name: str) -> None:
        """-9; whoever looks after it starts it again."""
        os.kill(self.pid(name), signal.SIGKILL)

    def signal(self, name: str, number: int) -> None:
        os.kill(self.pid(name), number)

    def break_the_way_to(self, name: str, fault: Fault) -> None:
        self.proxies[name].fault = fault

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()

    def empty_stock_redis(self) -> None:
        """As if its disk were lost: it is stopped, its files go, it dies, and comes back with nothing."""
        pid = self.pid("redis-stock")
        with redis.Redis.from_url(self.direct["STOCK_REDIS_URL"], decode_responses=True) as stock:
            folder = Path(stock.config_get("dir")["dir"])
        os.kill(pid, signal.SIGSTOP)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.kill(pid, signal.SIGKILL)

    def set_read_only(self, on: bool) -> None:
        """As a standby is, or a primary whose disk is full."""
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(self.direct["DATABASE_URL"], autocommit=True, options=options) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
            connection.execute("SELECT pg_reload_conf()")

    def set_provider(self, faults: str) -> None:
        """JSON of `provider_faults.py`; {} heals."""
        place = Place.of(self.shop.environment["PROVIDER_URL"])
        signature = {HEADER.replace("-", "_"): sign(self.shop.secrets["PROVIDER_SECRET"].encode(), faults.encode())}
        wire = Wire(place, patience_seconds=10)
        wire.ask(request("POST", "/faults", place, body=faults.encode(), **signature))
        wire.close()


@contextmanager
def proving_ground(say: Callable[[str], object], folder: Path) -> Iterator[ProvingGround]:
    """Servers, proxies, and a `make up` of the checkout in this folder that finds its servers behind them."""
    with ExitStack() as opened:
        servers = opened.enter_context(_servers(say))
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="drills-")))
        proxies, told = {}, {}
        for name, variable in SERVERS.items():
            if url := servers.environment.get(variable):
                proxies[name] = opened.enter_context(proxy_before(url, place))
                told[variable] = url_behind(url, proxies[name])
        shop = opened.enter_context(own_shop(say, told, folder))
        yield ProvingGround(shop, servers, proxies)


@contextmanager
def _servers(say: Callable[[str], object]) -> Iterator[Running]:
    """Started, and started again when they die, until the block ends."""
    for number in SIGNALS[1:]:
        signal.signal(number, signal.default_int_handler)
    state = State(Path(tempfile.mkdtemp(prefix=f"{PREFIX}drill-", dir=shared_temp())))
    state.path.chmod(0o711)  # the account of the servers passes through
    over = threading.Event()
    try:
        with state.locked():
            supervisor = Supervisor(state, lambda line: None, over.is_set)
            running = start_all(state, lambda line: None, supervisor=supervisor, environ=clean_environment())
            watch = threading.Thread(target=supervisor.watch, daemon=True)
            watch.start()
            try:
                yield running
            finally:
                over.set()
                watch.join(10)
                running.stop()
    finally:
        state.remove()
