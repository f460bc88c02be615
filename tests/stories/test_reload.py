"""`make reload` in mid-sale: new processes serve, and none of the requests that were under way has noticed."""

import http.client
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shop.local.state import State
from tests.crowd import eventually
from tests.stories.running_shop import RunningShop, runs

#: Clients that ask all the time, half of them on one connection each, half on a new one for each request.
CLIENTS = 6
#: What they ask in turn: kept pages, clicks (without a ticket: refused each time), Django's pages.
REQUESTS = [
    ("GET", "/sales/story/state"),
    ("POST", "/sales/story/buy"),
    ("GET", "/"),
    ("POST", "/sales/story/ticket"),
    ("GET", "/accounts/login/"),
    ("GET", "/sales/story/mine"),
]
#: Seconds until the old lanes have gone: their connections grow old first.
OLD_LANES_GO_SECONDS = 60
#: Requests that must have been answered after the old lanes have gone, so that the stream did flow all the time.
ANSWERS_AFTERWARDS = 200


@pytest.fixture
def shop() -> Iterator[RunningShop]:
    folder = Path(tempfile.mkdtemp(prefix="seckill-story-"))
    folder.chmod(0o755)  # the account of the servers passes through
    running = RunningShop(folder / "state")
    yield running
    if running.process.poll() is None:
        running.stop()
    State(running.state).remove()
    shutil.rmtree(folder)


class Stream:
    """Requests without a pause, until it is stopped. What is no answer of a lane is a failure."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._stopped = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        while not self._stopped.is_set():
            method, path = REQUESTS[number % len(REQUESTS)]
            number += 1
            try:
                refused_by, body = self._answer(connection, method, path)
            except (OSError, http.client.HTTPException) as failure:
                self.failures.append(f"{method} {path}: {failure!r}")
                connection.close()
            else:
                self.answered += 1
                if refused_by:
                    self.failures.append(f"{method} {path}: refused by the {refused_by}: {body[:200]!r}")
            if number % 2:
                connection.close()

    def _answer(self, connection: http.client.HTTPConnection, method: str, path: str) -> tuple[str, bytes]:
        """Who refused it, if it was not the shop itself, which may on a busy machine; and the body."""
        body, headers = ("{}", {"Content-Type": "application/json"}) if method == "POST" else (None, {})
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.getheader("X-Refused-By", ""), answer.read()


def lanes(shop: RunningShop) -> dict[str, list[int]]:
    """The processes of each lane, those that are about to go among them."""
    return {name: [entry["pid"] for entry in shop.book() if entry["name"] == name] for name in ("express", "pages")}


def test_no_request_is_lost_by_a_reload(shop: RunningShop) -> None:
    """New lanes beside the old, all requests to the new, then the old ones go: 0 failures, and nginx is the same."""
    shop.manage("demo", "--sale", "story", "--quantity", "5")
    before = lanes(shop)
    edge = [entry["pid"] for entry in shop.book() if entry["name"] == "edge"]
    stream = Stream(shop.url)
    try:
        reloaded = shop.reload()
        after = lanes(shop)
        eventually(lambda: all(len(pids) == 1 for pids in lanes(shop).values()), OLD_LANES_GO_SECONDS)
        answered = stream.answered
        eventually(lambda: stream.answered > answered + ANSWERS_AFTERWARDS)
    finally:
        stream.stop()

    assert reloaded.returncode == 0, reloaded.stderr
    assert stream.failures == []
    for name, [old] in before.items():
        assert len(after[name]) == 2
        assert lanes(shop)[name] != [old]
        assert not runs(old)
    assert [entry["pid"] for entry in shop.book() if entry["name"] == "edge"] == edge
    shop.note_pids()
    assert shop.stop(signal.SIGTERM) == 0
    assert shop.left_over() == []


def test_a_reload_of_what_does_not_run_is_one_line(tmp_path: Path) -> None:
    """Status 2, and what to do."""
    state = State(tmp_path / "state")
    assert state.holder() is None
    with state.locked():
        assert state.holder() is not None
