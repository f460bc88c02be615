"""Start processes in groups, keep them running, stop them in reverse: whatever happens, nothing is left behind.

Rules, each with a test in tests/local/test_supervisor.py:

- Whoever is started is written down first and forgotten last, so that a start after `kill -9` of this process
  finds it: a server that answers is taken over, everything else is stopped.
- A group is ready when each of its services says so by its own protocol. A death or a missed deadline before that
  is Broken, with the last lines of the log.
- Afterwards a dead service is started again, each time after a longer pause, and at most RESTARTS a minute.
- Groups stop in reverse order; the stop depends on nothing that may be gone, such as the terminal.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from shop.local import ledger
from shop.local.child import LOOK_SECONDS, Child, stop_together
from shop.local.logs import LAST_LINES, Log
from shop.local.refusal import Broken, Refusal
from shop.local.service import Service, at_once
from shop.local.state import State

#: Seconds a service has to become ready: the slowest needs three, on a machine that does nothing else.
READY_SECONDS = 60
#: Seconds an errand may take: initdb on a slow disk, the demo's pictures.
ERRAND_SECONDS = 180
#: Seconds between two looks at running processes: a death is noticed before anybody else notices it.
WATCH_SECONDS = 0.05

#: Restarts within RESTART_WINDOW_SECONDS after which a service counts as broken.
RESTARTS = 5
RESTART_WINDOW_SECONDS = 60
#: Pause before the first restart; doubled for each further one in the window: 0.2 + 0.4 + ... + 3.2 s.
FIRST_PAUSE_SECONDS = 0.2


class StopAsked(Exception):
    """Somebody wants everything to stop: a signal, or the end of the `make` that started us."""


def nobody_asks() -> bool:
    return False


@dataclass
class Post:
    """A service, and the process that fills it now."""

    service: Service
    log: Log
    child: Child | None = None
    deaths: deque[float] = field(default_factory=deque)
    restart_at: float = 0.0
    ready_by: float | None = None
    #: When the one that was replaced is told to go; None for all that stay.
    leave_at: float | None = None


class Supervisor:
    """`stop_asked` is looked at between all steps; `say` prints one line for a person."""

    def __init__(
        self, state: State, say: Callable[[str], object] = print, stop_asked: Callable[[], bool] = nobody_asks
    ) -> None:
        self._state = state
        self._say = say
        self._stop_asked = stop_asked
        self._groups: list[list[Post]] = []
        self._left = ledger.left_over(state.ledger)

    def run(self, service: Service, seconds: float = ERRAND_SECONDS) -> None:
        """Run an errand to its end. Raises Broken when it fails or takes longer than that."""
        post = Post(service, Log(self._state.log / f"{service.name}.log"))
        self._groups.append([post])
        self._begin(post)
        assert post.child is not None

        deadline = time.monotonic() + seconds
        while not (ending := post.child.ending()):
            self._pause(LOOK_SECONDS)
            if time.monotonic() > deadline:
                ending = f"did not end within {seconds:g} s"
                break
        succeeded = post.child.succeeded
        stop_together([post.child], grace_seconds=0)
        self._groups.pop()
        self._write_down()
        if not succeeded:
            raise Broken(_obituary(post, ending))

    def start(self, services: Sequence[Service]) -> None:
        """Start the services at the same time and return when all are ready. Raises Broken when one is not."""
        posts = [Post(service, Log(self._state.log / f"{service.name}.log")) for service in services]
        self._groups.append(posts)
        for post in posts:
            self._begin(post)
        self._wait_until_ready(posts)

    def stop_left_over(self, keep: Sequence[str] = ()) -> None:
        """Stop what a killed supervisor has left, except the services of these names."""
        going = [entry for entry in self._left if entry.name not in keep]
        stop_together([Child(entry) for entry in going])
        self._left = [entry for entry in self._left if entry.name in keep]
        self._write_down()

    def watch(self, between: Callable[[], object] = at_once) -> None:
        """Start again what dies, until a stop is asked for. Raises Broken when something dies too often.

        `between` is called between two looks.
        """
        with suppress(StopAsked):
            while True:
                for post in list(self._posts()):
                    self._look_after(post)
                between()
                self._pause(WATCH_SECONDS)

    def replace(self, services: Sequence[Service], switch: Callable[[], object], leave_seconds: float) -> None:
        """Start the services beside those of the same names; when all are ready, `switch()`; let the old ones go later.

        Raises Broken when a new one does not come up, with the old ones untouched.
        """
        new = [Post(service, Log(self._state.log / f"{service.name}.log")) for service in services]
        self._groups.append(new)
        try:
            for post in new:
                self._begin(post)
            self._wait_until_ready(new)
            switch()
        except Broken:
            stop_together([post.child for post in new if post.child], grace_seconds=0)
            self._groups.remove(new)
            self._write_down()
            raise
        self._groups.remove(new)
        for post in new:
            self._take_over_from(post, time.monotonic() + leave_seconds)

    def restart(self, name: str) -> None:
        """Let the service finish what it does, and start it anew; it is watched until it is ready."""
        post = self._post(name)
        if post.child:
            stop_together([post.child])
            self._begin(post)
            post.ready_by = time.monotonic() + READY_SECONDS

    def signal(self, name: str, number: int) -> None:
        if child := self._post(name).child:
            child.send(number)

    def stop(self) -> None:
        """Stop everything, the last group first. Never raises because of the terminal or a full disk."""
        while self._groups:
            stop_together([post.child for post in self._groups[-1] if post.child])
            self._groups.pop()
            with suppress(Refusal):
                self._write_down()
        with suppress(Refusal):
            self.stop_left_over()

    def pid(self, name: str) -> int:
        """The process that fills the service of this name now. Raises KeyError when there is none."""
        if child := self._post(name).child:
            return child.entry.pid
        raise KeyError(name)

    def end(self, name: str) -> None:
        """Stop the group of the service of this name alone. Raises KeyError when there is none."""
        for group in self._groups:
            if any(post.service.name == name for post in group):
                stop_together([post.child for post in group if post.child])
                self._groups.remove(group)
                self._write_down()
                return
        raise KeyError(name)

    # --- starting

    def _begin(self, post: Post) -> None:
        post.child = self._take_over(post.service) or self._start(post)
        self._write_down()

    def _take_over(self, service: Service) -> Child | None:
        """A server that a killed supervisor left, if it is the same command and answers; else it is stopped."""
        for entry in [entry for entry in self._left if entry.name == service.name]:
            self._left.remove(entry)
            child = Child(entry)
            if service.is_server and entry.command == list(service.command) and service.ready():
                self._say(f"{service.name} still runs: taken over")
                return child
            stop_together([child])
        return None

    def _start(self, post: Post) -> Child:
        try:
            return Child.start(post.service, post.log)
        except OSError as error:
            raise Broken(f"{post.service.name} cannot be started: {error}") from error

    def _wait_until_ready(self, posts: Sequence[Post]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        waiting = list(posts)
        while waiting:
            for post in waiting:
                if post.child and (ending := post.child.ending()):
                    raise Broken(_obituary(post, ending))
            waiting = [post for post in waiting if not _is_up(post)]
            if waiting and time.monotonic() > deadline:
                raise Broken(_obituary(waiting[0], f"was not ready within {READY_SECONDS} s"))
            self._pause(LOOK_SECONDS)

    def _take_over_from(self, new: Post, leave_at: float) -> None:
        old = self._post(new.service.name)
        old.leave_at = leave_at
        group = next(group for group in self._groups if old in group)
        group.append(new)

    # --- watching

    def _look_after(self, post: Post) -> None:
        now = time.monotonic()
        if post.leave_at is not None:
            self._see_off(post, now)
        elif post.child is None:
            if now >= post.restart_at:
                self._begin(post)
                post.ready_by = now + READY_SECONDS
        elif ending := post.child.ending():
            self._plan_restart(post, ending)
        elif post.ready_by is not None:
            self._greet(post)

    def _plan_restart(self, post: Post, ending: str) -> None:
        assert post.child is not None
        post.child.sweep()
        post.child = None

        now = time.monotonic()
        while post.deaths and post.deaths[0] < now - RESTART_WINDOW_SECONDS:
            post.deaths.popleft()
        if len(post.deaths) == RESTARTS:
            raise Broken(_obituary(post, f"{ending}, the {RESTARTS + 1}th time within a minute"))

        post.restart_at = now + FIRST_PAUSE_SECONDS * 2 ** len(post.deaths)
        post.deaths.append(now)
        if post.service.is_server:
            self._say(f"!!! {post.service.name} {ending}: starting it again with its data")
        else:
            self._say(f"{post.service.name} {ending}: starting it again")

    def _see_off(self, post: Post, now: float) -> None:
        """One that was replaced: if it dies before its time, nobody starts it again."""
        assert post.leave_at is not None
        if post.child and post.child.ending() is None and now < post.leave_at:
            return
        if post.child:
            stop_together([post.child])
        next(group for group in self._groups if post in group).remove(post)
        self._write_down()

    def _greet(self, post: Post) -> None:
        assert post.child is not None
        assert post.ready_by is not None
        if _is_up(post):
            post.ready_by = None
            self._say(f"{post.service.name} is back")
        elif time.monotonic() > post.ready_by:
            stop_together([post.child], grace_seconds=0)

    # --- shared

    def _pause(self, seconds: float) -> None:
        if self._stop_asked():
            raise StopAsked
        time.sleep(seconds)

    def _post(self, name: str) -> Post:
        """Who fills the service of this name now. Raises KeyError when there is none."""
        for post in self._posts():
            if post.service.name == name and post.leave_at is None:
                return post
        raise KeyError(name)

    def _posts(self) -> Iterator[Post]:
        return (post for group in self._groups for post in group)

    def _write_down(self) -> None:
        running = [post.child.entry for post in self._posts() if post.child]
        ledger.write(self._state.ledger, [*self._left, *running])


def _is_up(post: Post) -> bool:
    """Whether it is ready; from then on it gives way to what sells."""
    if not post.service.ready():
        return False
    if post.child:
        post.child.give_way(post.service.niceness)
    return True


def _obituary(post: Post, ending: str | None) -> str:
    head = f"{post.service.name} {ending}; the last {LAST_LINES} lines of {post.log.path}:"
    return "\n".join([head, *(f"  {line}" for line in post.log.last_lines())])
