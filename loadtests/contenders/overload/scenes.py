"""What is asked for under load, and of whom: a mix in which one in ten is about to buy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.contenders.overload.load import Kind
from loadtests.house import House
from resilience.admission import SHARDS

#: Of all requests, by importance: few buy, some ask where their order stands, most look at the page.
SHARES: Mapping[int, float] = {3: 0.1, 2: 0.3, 1: 0.5, 0: 0.1}
#: What the importances are called in figures.
BUYERS = 3
#: People at the sale: more than the room has shards, so that all of them are drawn from.
SHOPPERS = 400
#: Door, levels and Django.
PAGES = "loadtests.contenders.overload.pages:application"
#: Seconds a ticket counts: it is made before everything else, and used to the end.
AN_HOUR = "3600"


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
        Kind(importance, share, [_request("GET", f"/{importance}/{shard}") for shard in range(SHARDS)])
        for importance, share in SHARES.items()
    ]
    return Scene(f"{place}:without", f"{place}:within", f"{place}:refusing", kinds, alike=True)


def sale(house: House) -> Scene:
    """The shop through Django: a sale that is open, people who are signed in, and each of them holds a unit already,
    so that a click is answered as one that was sent twice."""
    from loadtests.contenders.overload.shoppers import shoppers_of_a_sale

    place = "loadtests.contenders.overload.sale"
    crowd = shoppers_of_a_sale(house, SHOPPERS)
    requests = {
        3: [_request("POST", crowd.page + "buy", one.cookie, one.click) for one in crowd.shoppers],
        2: [_request("GET", f"/reservations/{one.reservation}", one.cookie) for one in crowd.shoppers],
        1: [_request("GET", crowd.page, one.cookie, accept="text/html") for one in crowd.shoppers],
        0: [_request("GET", "/", one.cookie, accept="text/html") for one in crowd.shoppers],
    }
    kinds = [Kind(importance, share, requests[importance]) for importance, share in SHARES.items()]
    variables = {"TICKET_SECONDS": AN_HOUR}
    return Scene(f"{place}:without", PAGES, f"{place}:refusing", kinds, alike=False, variables=variables)


def _request(method: str, path: str, cookie: str = "", body: str = "", accept: str = "application/json") -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Accept: {accept}"]
    lines += [f"Cookie: buyer={cookie}"] if cookie else []
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", body])


SCENES: Mapping[str, Callable[[House], Scene]] = {"reference": reference, "sale": sale}
