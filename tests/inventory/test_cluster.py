"""The scripts on a real Redis Cluster of three nodes: each offer lives on one of them, with all its keys."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice, pairwise
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ResponseError

from inventory import _keys
from inventory._scripts import Script
from resilience.clock import now_ms
from shop.local.servers import Running
from tests.crowd import eventually
from tests.free_ports import free_port
from tests.servers import PREFIX

NODES = 3
SLOTS = 16_384
#: Seconds a small Redis may take to end.
END_SECONDS = 10
#: A window that the test fits in, on both sides.
AN_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Node:
    """A node, and the slots that are its own."""

    port: int
    bus_port: int
    slots: range

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def offer_ids(self) -> Iterator[int]:
        """The offers that live here."""
        return (pk for pk in count(1) if key_slot(_keys.units(pk).encode()) in self.slots)


@pytest.fixture(scope="module")
def nodes(servers: Running) -> Iterator[list[Node]]:
    """Three nodes that know each other and share all slots; gone afterwards, whatever happens."""
    starts = [SLOTS * number // NODES for number in range(NODES + 1)]
    nodes = [Node(free_port(), free_port(), range(*own)) for own in pairwise(starts)]
    with ExitStack() as opened:
        for node in nodes:
            folder = opened.enter_context(TemporaryDirectory(prefix=PREFIX))
            opened.enter_context(running(node, servers, folder))
        for node in nodes:
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", node.slots.start, node.slots.stop - 1)
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port)
        eventually(lambda: all(is_whole(node) for node in nodes))
        yield nodes


@contextmanager
def running(node: Node, servers: Running, folder: str) -> Iterator[None]:
    """The program of this run's stock Redis, as a node of a cluster."""
    [service] = [post.service for post in servers.supervisor._posts() if post.service.name == "redis-stock"]
    options = {
        "port": node.port,
        "cluster-enabled": "yes",
        "cluster-port": node.bus_port,  # by default the port and ten thousand, which may be lent to a client
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen([service.command[0], *words], env=service.environment, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: answers(node, process))
            yield
        finally:
            process.terminate()
            process.wait(END_SECONDS)


def answers(node: Node, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "this node has refused to start"
    try:
        return bool(node.client.ping())
    except redis.RedisError:
        return False


def is_whole(node: Node) -> bool:
    """Every slot is served, by nodes that all have been met."""
    info: Any = node.client.execute_command("CLUSTER INFO")
    return (info["cluster_state"], int(info["cluster_known_nodes"])) == ("ok", NODES)


#: Runs a script by its name, with the keys of an offer by their names.
Run = Callable[..., Any]

#: What each script answers in the life below.
ANSWERS = {
    "ready.lua": "READY",
    "install.lua": "INSTALLED",
    "reserve.lua": ["RESERVED"],
    "lag.lua": [0, 0],
    "record.lua": ["PLACED"],
    "acknowledge.lua": 1,
    "acknowledged.lua": ["the event", 0],
    "settle.lua": ["SETTLED"],
    "change.lua": "5",
    "adjust.lua": "ADJUSTED",
    "trim.lua": 1,
}


def life_of(offer_id: int, client: Any, run: Run) -> dict[str, Any]:
    """Put on the shelf, held, written down, released, restocked, repaired, trimmed: what each script answered."""
    now, held = now_ms(), f"{offer_id}-{'h' * 22}"
    window = (now - AN_HOUR_MS, now + AN_HOUR_MS)
    answers = {
        "ready.lua": run("ready.lua"),
        "install.lua": run("install.lua", "units", "events", arguments=[10, 2, 1, "open", *window, "MAKE"]),
    }
    wish = [99, held, 7, 1, ""]
    _, _, _, *words = run("reserve.lua", "units", "reservations", "buyers", "events", arguments=wish)
    [(event_id, _)] = client.xrange(_keys.events(offer_id))
    client.xreadgroup(_keys.GROUP, "worker", {_keys.events(offer_id): ">"})
    return answers | {
        "reserve.lua": words,
        "record.lua": run("record.lua", "reservations", arguments=[held, "ORDER", now]),
        "acknowledge.lua": run("acknowledge.lua", "units", "events", arguments=[event_id]),
        "acknowledged.lua": named(run("acknowledged.lua", "units", "events"), event_id),
        "settle.lua": run("settle.lua", "units", "reservations", "buyers", arguments=[held, "released", 1]),
        "change.lua": run("change.lua", "units", "changes", arguments=["a-change", 5, 1]),
        "adjust.lua": run("adjust.lua", "units", arguments=[15, 0, 0, 1, 14, 0, 0]),
        "lag.lua": run("lag.lua", "units", "events"),
        "trim.lua": run("trim.lua", "events", arguments=[-AN_HOUR_MS]),  # also what is younger than this moment
    }


def named(answer: list[Any], event_id: str) -> list[Any]:
    """The answer without what no two lives have in common."""
    return ["the event" if value == event_id else value for value in answer]


def keys_of(offer_id: int, names: tuple[str, ...]) -> list[str]:
    return [getattr(_keys, name)(offer_id) for name in names]


@pytest.mark.parametrize("number", range(NODES))
def test_every_script_runs_on_every_node(nodes: list[Node], number: int) -> None:
    """As the shop calls them, on an offer of each node's slots: none misses a key or reaches for another node's."""
    client, offer_id = nodes[number].client, next(nodes[number].offer_ids())

    def run(name: str, *keys: str, arguments: Sequence[Any] = ()) -> Any:
        return Script(name)(keys_of(offer_id, keys), list(arguments), client=client)

    assert life_of(offer_id, client, run) == ANSWERS
    assert {path.name for path in Script("reserve.lua").path.parent.glob("*.lua")} == set(ANSWERS)


def test_a_cluster_client_finds_the_node_of_every_offer(nodes: list[Node]) -> None:
    """Offers of three nodes through one client, which goes by the keys that a script declares."""
    with RedisCluster("127.0.0.1", nodes[0].port, decode_responses=True) as cluster:
        for offer_id in (pk for node in nodes for pk in list(islice(node.offer_ids(), 2))[1:]):

            def run(name: str, *keys: str, arguments: Sequence[Any] = (), pk: int = offer_id) -> Any:
                return cluster.eval(Script(name).source, len(keys), *keys_of(pk, keys), *arguments)

            assert life_of(offer_id, cluster, run) == ANSWERS


def test_all_keys_of_an_offer_share_a_slot(nodes: list[Node]) -> None:
    """By the cluster's own reckoning; the offers themselves lie on all nodes."""
    client = nodes[0].client
    slots = {}
    for offer_id in range(1, 100):
        [slots[offer_id]] = {client.execute_command("CLUSTER KEYSLOT", key) for key in _keys.all_of(offer_id)}

    assert {node for slot in slots.values() for node in nodes if slot in node.slots} == set(nodes)


def test_a_cluster_refuses_keys_of_two_offers(nodes: list[Node]) -> None:
    """So the tests above would have noticed."""
    one, other = next(nodes[0].offer_ids()), next(nodes[1].offer_ids())

    with pytest.raises(ResponseError, match="same slot"):
        Script("acknowledge.lua")([_keys.units(one), _keys.events(other)], ["1-1"], client=nodes[0].client)
