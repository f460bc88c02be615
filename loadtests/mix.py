"""Single requests, drawn from kinds by their shares, over connections that are kept and of which more are opened."""

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle
from random import Random

from loadtests.book import Book
from loadtests.wire import Place, Wire


class Mix:
    """`kinds` are JSON: importance, share, requests as text. Their importance is the kind in records."""

    def __init__(self, kinds: Sequence[str], host: str, book: Book) -> None:
        told = [json.loads(kind) for kind in kinds]
        self._bounds = list(accumulate(kind["share"] for kind in told))
        self._requests = [(str(kind["importance"]), _endless(kind["requests"])) for kind in told]
        self._place, self._book = Place.of(host), book
        self._idle: list[Wire] = []

    def send_one(self, at: float, random: Random) -> None:
        [(kind, requests)] = random.choices(self._requests, cum_weights=self._bounds)
        wire = self._idle.pop() if self._idle else Wire(self._place)
        if self._book.ask(wire, next(requests), kind, "arrival", 0, at) is not None:
            self._idle.append(wire)


def _endless(requests: Sequence[str]) -> Iterator[bytes]:
    return cycle([request.encode("latin-1") for request in requests])
