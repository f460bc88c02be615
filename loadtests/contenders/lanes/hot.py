"""The hot requests, one kind at a time, at the express lane; and the least that granian and Django can do."""

import time

from inventory import _keys, sold_out
from loadtests.contenders.lanes import prepared, serving
from loadtests.contenders.lanes.measuring import loaded, must_be_refused
from loadtests.contenders.selling import hold_for, open_offer
from loadtests.figures import Sample
from loadtests.house import House

#: Clicks for each second of a measurement: more than one core answers, because a ticket that comes twice is no sale.
CLICKS_A_SECOND = 60_000
#: Different buyers of requests that may come again: more than anybody remembers by chance.
BUYERS = 4_000
#: Seconds until a ticket is surely younger than the last hold, by whichever clock.
LATER_SECONDS = sold_out.CLOCKS_DIFFER_MS / 1000 + 0.1
#: Reservations that one script makes: a million take longer than a client waits for an answer.
FILL_AT_ONCE = 50_000
#: Part of the clicks that must have become holds of their own.
NEARLY_ALL = 0.98


class Plain:
    """A constant."""

    def __init__(self, house: House, name: str, application: str) -> None:
        self._house, self._name, self._application = house, name, application

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.behind_granian(self._house, self._name, self._application)
        ran, samples = loaded(self._house, server, [prepared.get("/")], seconds)
        must_be_refused(ran, 0, self._name)
        return samples


class Buy:
    """Each click has a ticket of its own, and is RESERVED and on the disk of Redis when it is answered.

    `offers`: so many are open, and the clicks go to them in turn. `held`: so many reservations each of them has before.
    """

    def __init__(self, house: House, offers: int = 1, held: int = 0) -> None:
        self._house, self._offers, self._held = house, offers, held

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        offers = prepared.offers_on_sale(self._offers)
        for offer_id in offers:
            _fill(self._house, offer_id, self._held)
        serving.look_at(server, offers.values())
        requests = prepared.clicks(offers, int(CLICKS_A_SECOND * max(1.0, seconds)))
        ran, samples = loaded(self._house, server, requests, seconds)
        must_be_refused(ran, 0, "buy")
        held = sum(self._house.redis.hlen(_keys.reservations(offer_id)) for offer_id in offers) - self._held
        if held < NEARLY_ALL * ran.requests:
            raise RuntimeError(f"{ran.requests} clicks became {held} reservations")
        return samples


def _fill(house: House, offer_id: int, reservations: int) -> None:
    """So many reservations of strangers, as Redis keeps them: what the script looks at when an offer is large."""
    for first in range(1, reservations + 1, FILL_AT_ONCE):
        last = min(first + FILL_AT_ONCE - 1, reservations)
        house.redis.eval(_FILL, 2, _keys.reservations(offer_id), _keys.buyers(offer_id), offer_id, first, last)


_FILL = """
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
    local name = string.format('%d-%022d', ARGV[1], number)
    redis.call('HSET', KEYS[1], name, 'held:' .. number .. ':1')
    redis.call('HSET', KEYS[2], number, '1:' .. name)
end
"""


class Ticket:
    """The permission to press: who it is, whether the sale is open, and a new seal."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        [(offer_id, slug)] = prepared.offers_on_sale(1).items()
        serving.look_at(server, [slug])
        ran, samples = loaded(self._house, server, prepared.for_tickets(offer_id, slug, BUYERS), seconds)
        must_be_refused(ran, 0, "ticket")
        return samples


class SoldOut:
    """Nothing is left, and the tickets are from after that."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        offer_id = open_offer(1)
        hold_for(offer_id, [prepared.FIRST_BUYER])
        time.sleep(LATER_SECONDS)
        slug = prepared.slug_of(offer_id)
        serving.look_at(server, [slug])
        requests = prepared.clicks({offer_id: slug}, BUYERS)
        ran, samples = loaded(self._house, server, requests, seconds)
        must_be_refused(ran, ran.requests, "sold out")
        return samples


class Poll:
    """Where a reservation stands that is not yet recorded, as its buyer's page asks."""

    def __init__(self, house: House) -> None:
        self._house = house

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        ran, samples = loaded(self._house, server, prepared.polls(open_offer(), BUYERS), seconds)
        must_be_refused(ran, 0, "poll")
        return samples


class Same:
    """The same bytes for everybody: the sale's page, gzipped for a browser, or its live state."""

    def __init__(self, house: House, what: str) -> None:
        self._house, self._what = house, what

    def measure(self, seconds: float) -> list[Sample]:
        server = serving.shop(self._house, "express", "express")
        [slug] = prepared.offers_on_sale(1).values()
        serving.look_at(server, [slug])
        ran, samples = loaded(self._house, server, [same_for_all(slug, self._what)], seconds)
        must_be_refused(ran, 0, self._what)
        return [*samples, *sizes(ran.bytes, ran.requests, ran.seconds)]


def same_for_all(slug: str, what: str) -> bytes:
    return prepared.get(f"/sales/{slug}/{what}", prepared.PROGRAM if what else prepared.BROWSER)


def sizes(total_bytes: int, requests: int, seconds: float) -> list[Sample]:
    return [
        Sample(total_bytes / requests, "bytes", "an answer"),
        Sample(total_bytes / seconds * 60 / 1e9, "GB/minute", "sent"),
    ]
