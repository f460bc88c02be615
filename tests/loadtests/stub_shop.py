"""A small real HTTP server that speaks like the shop from outside, and can be told to be somebody else.

    python -m tests.loadtests.stub_shop PORT JSON

JSON: phase, opens_in_ms, ahead_ms (its clock), slug, workers and seconds (how many pages at once, each for so long),
ticket (the status and word that tickets are answered with). Keeps connections, and prints `ready`.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass


@dataclass
class Terms:
    slug: str = "sale"
    phase: str = "open"
    opens_in_ms: float = 0
    ahead_ms: float = 0
    workers: int = 64
    seconds: float = 0.0
    ticket: tuple[int, str] = (409, "SOLD_OUT")


class StubShop:
    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._places = asyncio.Semaphore(terms.workers)
        self._opens_at_ms = round(self._now_ms() + terms.opens_in_ms)

    def _now_ms(self) -> float:
        return time.time() * 1000 + self._terms.ahead_ms

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                status, body = await self._answer(head.split()[1].decode())
                clock = f"X-Server-Now-Ms: {self._now_ms():.0f}"
                writer.write(f"HTTP/1.1 {status} It\r\n{clock}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str) -> tuple[int, str]:
        terms, sale = self._terms, f"/sales/{self._terms.slug}/"
        if path == sale:
            async with self._places:
                await asyncio.sleep(terms.seconds)
            return 200, "a page"
        if path == sale + "state":
            return 200, json.dumps(self._state())
        if path == sale + "ticket":
            return terms.ticket[0], json.dumps({"outcome": terms.ticket[1]})
        return 404, json.dumps({"outcome": "NOT_FOUND"})

    def _state(self) -> dict[str, object]:
        offer = {"id": 1, "available": 5, "held": 0, "sold": 0, "quantity": 5}
        times = {"opens_at_ms": self._opens_at_ms, "closes_at_ms": self._opens_at_ms + 10**8, "poll_after_ms": 1000}
        return {"phase": self._terms.phase, **times, "offers": [offer]}


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def main() -> None:
    shop = StubShop(Terms(**json.loads(sys.argv[2])))
    listening = await asyncio.start_server(shop.talk, "127.0.0.1", int(sys.argv[1]), backlog=1_024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
