"""A small real HTTP server for the client of the open model: so many at once, each for so long, the others wait.

    python -m tests.loadtests.slow_server PORT WORKERS SECONDS [STALL_AT STALL_SECONDS]

`/busy` is refused with 503, `/gone` with 404, `/drop` ends the connection. At STALL_AT requests, nobody is served for
STALL_SECONDS. Keeps connections, and prints `ready`.
"""

import asyncio
import sys

STATUSES = {"/busy": "503 Service Unavailable", "/gone": "404 Not Found"}


class Server:
    def __init__(self, workers: int, seconds: float, stall_at: int, stall_seconds: float) -> None:
        self._seconds = seconds
        self._stall_at, self._stall_seconds = stall_at, stall_seconds
        self._places = asyncio.Semaphore(workers)
        self._stalled = asyncio.Lock()
        self._served = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
                if path == "/drop":
                    break
                if path not in STATUSES:
                    await self._work()
                status = STATUSES.get(path, "200 OK")
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _work(self) -> None:
        async with self._places:
            self._served += 1
            if self._served == self._stall_at:
                async with self._stalled:
                    await asyncio.sleep(self._stall_seconds)
            async with self._stalled:
                pass
            await asyncio.sleep(self._seconds)


async def main() -> None:
    port, workers, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    stall_at, stall_seconds = (int(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 4 else (0, 0.0)
    server = Server(workers, seconds, stall_at, stall_seconds)
    listening = await asyncio.start_server(server.talk, "127.0.0.1", port, backlog=1_024)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
