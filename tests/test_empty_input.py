"""Who asks for nothing gets nothing, and no server hears of it.

Every function of the three packages that takes a collection and may be called from elsewhere is found by its
annotations and called with none: no command may reach a Redis or memcached, and PostgreSQL may not see as much as a
connection. A new one is found by itself; when it needs an argument of a kind that is not known here, the test says so.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib import admin
from django.core.cache import caches
from django.db import connections, transaction
from django.http import HttpRequest
from pymemcache.client.base import Client

from inventory import effects, outbox, recovery, rereading, stock
from inventory._connection import pooled, stock_redis
from inventory._scripts import Script
from inventory.models import Effect, Reservation
from resilience.cache.leases import Leases
from resilience.cache.loading import Loading
from resilience.cache.reading import Reading
from shop.models import Order

ROOT = Path(__file__).parent.parent

#: A collection of things to ask for. A `dict` here is one thing's fields, and many things by their names a `Mapping`.
COLLECTION = re.compile(r"(list|set|frozenset|Sequence|Iterable|Collection|Mapping)\[")
EMPTY = {"set": set(), "frozenset": frozenset[Any](), "Mapping": {}}

#: Found by their annotations, and no way to a server.
LOCAL = {
    "inventory._scripts.Script.__call__": "the keys of one call: a script without keys has work to do",
    "shop.admin_forms.ProductPicker.optgroups": "the choices of a form, which Django reads",
    "shop.degraded.Pages.for_request": "what WSGI says of one request",
    "shop.env.numbers": "the ranges of one setting",
    "shop.seals.Seal.__init__": "the keys of a signature, of which there is one at least",
}


@dataclass(frozen=True)
class Boundary:
    """A function, by the name of its module and its own, and what each of its parameters is annotated with."""

    module: str
    owner: str
    name: str
    parameters: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.owner, self.name)))


def boundaries() -> Iterator[Boundary]:
    for package in ("inventory", "shop", "resilience"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts and parts[:2] != ("shop", "local"):
                yield from _in(ast.parse(path.read_text()), ".".join(parts))


def _in(tree: ast.Module | ast.ClassDef, module: str, owner: str = "") -> Iterator[Boundary]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _in(node, module, node.name)
        elif isinstance(node, ast.FunctionDef) and not re.match(r"_(?!_)|__init__", node.name):
            needed = tuple(_needed(node.args))
            found = Boundary(module, owner, node.name, needed)
            overload = any(ast.unparse(each) == "overload" for each in node.decorator_list)
            if not overload and any(COLLECTION.match(kind) for _, kind in needed) and str(found) not in LOCAL:
                yield found


def _needed(arguments: ast.arguments) -> Iterator[tuple[str, str]]:
    """Parameters without a default, and how they are annotated."""
    positional = arguments.args[: len(arguments.args) - len(arguments.defaults)]
    keywords = [each for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not default]
    for each in positional + keywords:
        if each.arg not in ("self", "cls"):
            yield each.arg, ast.unparse(each.annotation) if each.annotation else "nothing"


#: Those who were called back about nothing.
called: list[Any] = []


def not_called(*about: Any) -> Any:
    called.append(about)
    return {}


def cache_stack() -> Any:
    cache: Any = caches["default"]
    return cache.stack


#: How to come by an argument that is no collection, by its annotation; Callables are never called.
ARGUMENTS: dict[str, Callable[[], Any]] = {
    "int": lambda: 1,
    "int | None": lambda: 1,
    "float": lambda: 1.0,
    "float | None": lambda: 1.0,
    "str": lambda: "1",
    "bool": lambda: False,
    "AbstractContextManager[Connection]": lambda: pooled(stock_redis()),
    "BaseException | None": lambda: None,
    "Effect.Kind": lambda: Effect.Kind.REFUSE,
    "Flight": lambda: cache_stack().flights.claim([])[0],
    "HttpRequest": HttpRequest,
    "Leases": lambda: Leases(cache_stack()),
    "Order.State": lambda: Order.State.EXPIRED,
    "Reservation.State": lambda: Reservation.State.EXPIRED,
    "Stack": cache_stack,
    "admin.ModelAdmin": lambda: admin.site.get_model_admin(Order),
    **dict.fromkeys(("Follow", "LoadMany", "PlaceOrders"), lambda: not_called),
}
#: How to come by the object whose method it is.
OWNERS: dict[str, Callable[[], Any]] = {
    "Bus": lambda: cache_stack().bus,
    "Flight": lambda: cache_stack().flights.claim([])[0],
    "Flights": lambda: cache_stack().flights,
    "Leases": lambda: Leases(cache_stack()),
    "Loading": lambda: Loading(cache_stack(), not_called, 1.0, 1.0),
    "MemcachedTier": lambda: cache_stack().memcached,
    "MemoryTier": lambda: cache_stack().memory,
    "Reading": lambda: Reading(cache_stack(), not_called, 1.0),
    "RedisTier": lambda: cache_stack().redis,
    "Script": lambda: Script("settle.lua"),
    "Stack": cache_stack,
    "Tallies": lambda: cache_stack().tallies,
    "TieredCache": lambda: caches["default"],
}


def argument(kind: str) -> Any:
    if collection := COLLECTION.match(kind):
        return EMPTY.get(collection[1], [])
    if kind.startswith("Callable["):
        return not_called
    assert kind in ARGUMENTS, f"say in ARGUMENTS how to come by a {kind}"
    return ARGUMENTS[kind]()


def function_of(boundary: Boundary) -> Callable[..., Any]:
    module = importlib.import_module(boundary.module)
    if not boundary.owner:
        return getattr(module, boundary.name)
    assert boundary.owner in OWNERS, f"say in OWNERS how to come by a {boundary.owner}"
    return getattr(OWNERS[boundary.owner](), boundary.name)


class Heard:
    """What the servers have heard so far, by counters of their own."""

    def __init__(self) -> None:
        urls = (settings.STOCK_REDIS_URL, settings.CACHES["redis"]["LOCATION"])
        self._redis = [redis.Redis.from_url(url) for url in urls]
        self._memcached = [Client(url.removeprefix("unix://")) for url in settings.MEMCACHED_URLS]

    def by(self, do: Callable[[], Any]) -> tuple[int, int, bool]:
        """Commands to a Redis and to memcached, and whether PostgreSQL has seen anybody, while it was done."""
        before = self._commands()
        with ThreadPoolExecutor(1) as a_thread_without_connection:
            connected = a_thread_without_connection.submit(_connects, do).result()
        after = self._commands()
        return after[0] - before[0], after[1] - before[1], connected

    def _commands(self) -> tuple[int, int]:
        return sum(map(_redis_commands, self._redis)), sum(map(_memcached_commands, self._memcached))


def _connects(do: Callable[[], Any]) -> bool:
    try:
        do()
        return connections["default"].connection is not None
    finally:
        connections.close_all()


def _redis_commands(server: redis.Redis) -> int:
    stats: Any = server.info("commandstats")
    return sum(count["calls"] for name, count in stats.items() if name != "cmdstat_info")


def _memcached_commands(server: Client) -> int:
    """Whatever it counts when it is asked something, and new connections to it."""
    asked = re.compile(r"cmd_|.+_(hits|misses)$|total_connections$")
    return sum(int(value) for name, value in server.stats().items() if asked.match(name.decode()))


@pytest.fixture
def heard(django_db_setup: None, django_db_blocker: Any) -> Iterator[Heard]:
    """With everything at rest that starts by itself: the listener of the cache."""
    bus = cache_stack().bus
    bus.listen()
    assert bus.connected.wait(5)
    with django_db_blocker.unblock():
        yield Heard()


@pytest.mark.parametrize("boundary", list(boundaries()), ids=str)
def test_nothing_is_asked_for_nothing(boundary: Boundary, heard: Heard) -> None:
    """No command, no statement, no connection, whatever the function answers."""
    function = function_of(boundary)
    arguments = {name: argument(kind) for name, kind in boundary.parameters}

    assert heard.by(lambda: function(**arguments)) == (0, 0, False)
    assert not called


def test_the_boundaries_are_found() -> None:
    """Functions and methods, public ones of private modules too."""
    found = {str(boundary) for boundary in boundaries()}

    assert found >= {
        "inventory._persistence.end_held",
        "inventory._scripts.Script.run_each",
        "inventory.stock.levels",
        "resilience.cache.redis_tier.RedisTier.read",
        "resilience.cache.tiered.TieredCache.delete_many",
        "resilience.parallel.map",
        "shop.orders.place",
    }


def a_statement() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1")


def an_empty_transaction() -> None:
    with transaction.atomic():
        pass


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda: stock_redis().exists("anything"), (1, 0, False)),
        (a_statement, (0, 0, True)),
        (an_empty_transaction, (0, 0, True)),
        (lambda: cache_stack().redis.read(["anything"]), (1, 0, False)),
    ],
)
def test_what_is_asked_is_heard(do: Callable[[], Any], expected: tuple[int, int, bool], heard: Heard) -> None:
    """The counters count, also what Django sends around a transaction in which nothing is done."""
    do()  # once before, for what a new connection says of itself

    assert heard.by(do) == expected


def test_memcached_is_heard(heard: Heard) -> None:
    """A look at one key is at least one command to it."""
    if not settings.MEMCACHED_URLS:
        pytest.skip("no memcached on this machine")

    assert heard.by(lambda: cache_stack().memcached.read(["anything"]))[1] > 0


@pytest.mark.parametrize(
    "do",
    [
        lambda: outbox.drain_all(not_called),
        outbox.trim_all,
        effects.apply_pending,
        stock.finish_changes,
        lambda: recovery.watch(not_called),
        lambda: rereading.watch(not_called, not_called),
    ],
    ids=["drain", "trim", "settle", "changes", "recovery", "rereading"],
)
def test_an_empty_shop_leaves_redis_alone(do: Callable[[], Any], heard: Heard, db: None) -> None:
    """What the beat starts each second asks PostgreSQL which offers there are, and without any nobody else."""
    commands, _, _ = heard.by(do)

    assert commands == 0
    assert not called
