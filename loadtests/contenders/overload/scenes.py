"""What is asked for under load, and of whom: a mix in which one in ten is about to buy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.contenders.overload.load import Kind
from loadtests.house import House

#: Of all requests, by importance: few buy, some ask where their order stands, most look at the page.
SHARES: Mapping[int, float] = {3: 0.1, 2: 0.3, 1: 0.5, 0: 0.1}
#: What the importances are called in figures.
BUYERS = 3
#: Shards of the room, drawn from evenly.
SHARDS = 128


@dataclass(frozen=True, slots=True)
class Scene:
    """An application in three variants, as `module:name`, and the requests of its mix."""

    without: str
    within: str
    #: Refuses all but probes, by the same way as `within` does when it is full.
    refusing: str
    kinds: Sequence[Kind]
    #: All kinds cost the same.
    alike: bool
    variables: Mapping[str, str] = field(default_factory=dict)


def reference(house: House) -> Scene:
    place = "loadtests.contenders.overload.reference"
    kinds = [
        Kind(importance, share, [_get(f"/{importance}/{shard}") for shard in range(SHARDS)])
        for importance, share in SHARES.items()
    ]
    return Scene(f"{place}:without", f"{place}:within", f"{place}:refusing", kinds, alike=True)


def _get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n"


SCENES: Mapping[str, Callable[[House], Scene]] = {"reference": reference}
