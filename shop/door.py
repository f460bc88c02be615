"""The door: what is decided about a request before Django hears of it.

    probes -> level -> body -> waiting room -> deadline -> Django

What a refusal costs decides how much is left for buyers at ten times the load, and in Django's middleware it would cost
several times as much. It is constant bytes (`degraded.py`); the request's own are two headers.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import Any

from django.conf import settings

from resilience import deadline, degradation
from resilience.admission import Budgets, Verdict, WaitingRoom
from resilience.bulkhead import Bulkhead
from resilience.clock import now_ms
from resilience.comeback import Comeback
from resilience.degradation import Level
from resilience.metrics import REFUSALS
from shop import buyers, criticality, degraded, provider
from shop.asked import Asked, request_id
from shop.at_hand import at_hand
from shop.chances import SALES, Chances
from shop.criticality import Importance
from shop.degraded import Kind

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

#: Seconds until nobody waits for an answer any more: shoppers; passwords and payments; staff.
REQUEST_SECONDS, SLOW_SECONDS, STAFF_SECONDS = 1.0, 5.0, 10.0
#: Bytes of a body that are read before the room: as many as Django takes. What is larger is refused by what its head
#: says, and not read at all.
BODY_MAXIMUM = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
#: Digits of a length that may be one.
LENGTH_DIGITS = 19
#: Part of the threads that may be reading bodies at a moment: whoever sends slowly takes no more than these.
READERS_SHARE = 0.25
#: Milliseconds by which an arrival may be stamped before now. Older ones come from a clock that is wrong.
STAMP_OLDEST_MS = 10_000
#: Bytes of a streamed answer that are taken into memory, so that its reader's line does not hold a place.
IN_MEMORY_MAXIMUM = 262_144

#: Where the provider speaks to us.
PAYMENTS = "/payments/"

_STAMP = re.compile(r"\At=([0-9]{9,11})\.([0-9]{3})\Z")


@dataclass(frozen=True, slots=True)
class Rooms:
    """Shoppers wait in one; what is slow by its nature and staff have places of their own, so that neither takes those
    of the shoppers nor loses its own to them."""

    public: WaitingRoom
    slow: WaitingRoom
    staff: WaitingRoom

    def of(self, importance: Importance, environ: Environ) -> tuple[WaitingRoom, float]:
        """With the seconds that its people have."""
        if importance is Importance.STAFF:
            return self.staff, STAFF_SECONDS
        if criticality.is_slow(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return self.slow, SLOW_SECONDS
        return self.public, REQUEST_SECONDS


#: Places and threads of the two small rooms. Four passwords at once use a processor for a second; a console and a
#: back office in several tabs ask for a dozen things at once.
SLOW_SLOTS, SLOW_THREADS = 4, 12
STAFF_SLOTS, STAFF_THREADS = 2, 18
#: They wait for something that takes a second, so a quarter of one is no wait.
PATIENT = Budgets(least_seconds=0.5, most_seconds=2.0, burst_seconds=0.5)


def budgets() -> Budgets:
    """How long shoppers may wait, by the settings."""
    return Budgets(least_seconds=settings.QUEUE_LEAST_MS / 1000, most_seconds=settings.QUEUE_MOST_MS / 1000)


@cache
def rooms() -> Rooms:
    """Those of this process; whoever decides about levels reads their figures."""
    threads = settings.WEB_THREADS - SLOW_THREADS - STAFF_THREADS
    return Rooms(
        public=WaitingRoom(settings.WEB_SLOTS, threads, budgets(), lane="pages"),
        slow=WaitingRoom(SLOW_SLOTS, SLOW_THREADS, PATIENT, lane="slow"),
        staff=WaitingRoom(STAFF_SLOTS, STAFF_THREADS, PATIENT, lane="staff"),
    )


class Door:
    """The WSGI application; `application` is the one behind it."""

    def __init__(self, application: Application, its_rooms: Rooms | None = None) -> None:
        self._application = application
        self._rooms = its_rooms or rooms()
        self._pages = degraded.Pages()
        self._comeback = Comeback(self._rooms.public.figures)
        self._readers = Bulkhead("bodies", at_once=max(1, int(settings.WEB_THREADS * READERS_SHARE)))
        self._by_level = {
            importance: REFUSALS.labels("pages", "level", importance.value)
            for importance in Importance
            if importance.is_public
        }
        self._chances = Chances()
        self._without_a_chance = REFUSALS.labels("pages", "no_chance", Importance.BUYING.value)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        importance = criticality.of(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if importance is Importance.EXEMPT:
            return self._application(environ, start_response)

        asked = Asked(environ, _nothing, request_id(environ))
        has_come = self.receive(environ)
        if asked.path.startswith(PAYMENTS) and not _is_the_providers(environ):
            importance = Importance.BROWSING
        if kind := _given_up(importance, asked.path):
            self._by_level[importance].inc()
            return self.turn_away(kind, asked, start_response)

        room, seconds = self._rooms.of(importance, environ)
        arrived_at_ms = now_ms() - waited_ms(environ)
        said = self._enter(room, importance, asked, environ, arrived_at_ms) if has_come else Kind.BUSY
        if said is Verdict.ADMITTED:
            return self._admit(room, seconds, environ, start_response, arrived_at_ms)
        return self.turn_away(said if isinstance(said, Kind) else Kind.BUSY, asked, start_response)

    def receive(self, environ: Environ) -> bool:
        """Take the body in, before the request takes a place: a slow sender holds a thread and no slot, and a refusal
        finds its way. (An answer to a body that is still on its way becomes a reset: granian closes the connection.)

        False when too many are being read: that is a crowd of slow senders, or no crowd that this process can serve.
        """
        length = environ.get("CONTENT_LENGTH") or "0"
        if length == "0" or not (length.isascii() and length.isdecimal()):
            return True
        if len(length) > LENGTH_DIGITS or int(length) > BODY_MAXIMUM:
            environ["wsgi.input"] = BytesIO()
            return True
        if not self._readers.enter_at_once():
            return False
        try:
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(length)))
        finally:
            self._readers.leave()
        return True

    def _enter(
        self, room: WaitingRoom, importance: Importance, asked: Asked, environ: Environ, arrived_at_ms: int
    ) -> Verdict | Kind:
        """What the room says, or what is known before somebody waits there for nothing."""
        cookie = asked.cookies.get(buyers.COOKIE)
        rank = rank_of(importance, asked.path, cookie)
        shard = criticality.shard_of(cookie, environ)
        enter = partial(room.enter, rank, shard, (now_ms() - arrived_at_ms) / 1000)
        if rank is not Importance.BUYING or not room.is_full or not asked.path.startswith(SALES):
            return enter()
        said = self._chances.wait(asked.path, enter)
        if isinstance(said, Kind):
            self._without_a_chance.inc()
        return said

    def _admit(
        self, room: WaitingRoom, seconds: float, environ: Environ, start_response: StartResponse, arrived_at_ms: int
    ) -> Iterable[bytes]:
        """The place is given back when the answer is made; of one that is made while it is sent, at its end."""
        place = _Place(room)
        try:
            with deadline.within(seconds, arrived_at_ms=arrived_at_ms):
                answer = self._application(environ, start_response)
            return _in_memory(answer, place) or _OnTheWay(answer, place)
        except BaseException:
            place.give_back()
            raise

    def turn_away(self, kind: Kind, asked: Asked, start_response: StartResponse) -> Iterable[bytes]:
        """The constant page of that kind, in the reader's language."""
        page = self._pages.for_request(kind, asked, self._comeback.mean_seconds())
        start_response(page.status, [*page.headers, ("X-Request-Id", asked.id), ("X-Server-Now-Ms", str(now_ms()))])
        return [page.body]


def _given_up(importance: Importance, path: str) -> Kind | None:
    """What this level of the service has given up. The money that somebody has paid is taken in at every level, and
    staff may do everything: they end it."""
    level = degradation.current.situation.level
    is_money = importance is Importance.BUYING and path.startswith(PAYMENTS)
    if level < Level.SHED or not importance.is_public or is_money:
        return None
    if level >= Level.STATIC and not path.startswith("/static/"):
        return Kind.PAUSED if importance is Importance.BUYING else Kind.BACK_SOON
    return Kind.BUSY if importance <= Importance.LOOKING else None


def rank_of(importance: Importance, path: str, cookie: str | None) -> Importance:
    """Who would buy must be somebody: without our cookie it ranks with those who look. (The provider has none; its
    seal was looked at.) Staff have a room where there is no other rank, and do not count as buyers."""
    if importance is Importance.STAFF:
        return Importance.FOLLOWING
    is_click = importance is Importance.BUYING and not path.startswith(PAYMENTS)
    if is_click and (cookie is None or buyers.read(cookie) is None):
        return Importance.LOOKING
    return importance


def _is_the_providers(environ: Environ) -> bool:
    """Whether the body, which has been taken in, bears the provider's seal. To look costs less than a refusal; and
    whoever may post without one would rank with buyers, and come in at every level."""
    body = environ["wsgi.input"]
    if not isinstance(body, BytesIO) or body.getbuffer().nbytes > provider.CALLBACK_MAXIMUM:
        return False
    try:
        provider.check(body.getvalue(), environ.get("HTTP_X_SIGNATURE", ""))
    except provider.NotAuthentic:
        return False
    return True


def _nothing(_most: int) -> bytes:
    """What is decided here needs no body."""
    return b""


def waited_ms(environ: Environ) -> int:
    """How long the request has been here, where a proxy of ours says when it came: `X-Request-Start: t=1700000000.123`.

    Believed only with TRUSTED_PROXIES, whose proxies overwrite what the client sent. A moment in the future is now, and
    one that is older than ten seconds comes from a clock that is wrong: neither is held against anybody, and nobody
    gains more by one than to be treated as if it had just come.
    """
    stamp = _STAMP.match(environ.get("HTTP_X_REQUEST_START", "")) if at_hand.TRUSTED_PROXIES else None
    if stamp is None:
        return 0
    waited = now_ms() - int(stamp[1] + stamp[2])
    return waited if 0 < waited <= STAMP_OLDEST_MS else 0


# --- The answer of whoever was let in --------------------------------------------------------------------------------


class _Place:
    """A slot, given back once, however often and from wherever."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room: WaitingRoom | None = room
        self._giving = threading.Lock()

    def give_back(self) -> None:
        with self._giving:
            room, self._room = self._room, None
        if room:
            room.leave()


def _in_memory(answer: Any, place: _Place) -> list[bytes] | None:
    """The whole body, where it is there already or is a small file; None for what is made while it is sent."""
    is_made = isinstance(answer, list) or not getattr(answer, "streaming", True)
    if not is_made and not _is_small(answer):
        return None
    try:
        return [b"".join(answer)]
    finally:
        if hasattr(answer, "close"):
            answer.close()  # Django ends its request here, and lends its connections to others
        place.give_back()


def _is_small(answer: Any) -> bool:
    length = answer.headers.get("Content-Length", "") if hasattr(answer, "headers") else ""
    return length.isdecimal() and int(length) <= IN_MEMORY_MAXIMUM


class _OnTheWay:
    """A body that is made while it is sent. The place comes back at its end, at an error, or when nobody reads on."""

    def __init__(self, answer: Iterable[bytes], place: _Place) -> None:
        self._answer = answer
        self._parts: Iterator[bytes] = iter(answer)
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except BaseException:  # its end is one, too
            self._place.give_back()
            raise

    def close(self) -> None:
        try:
            if hasattr(self._answer, "close"):
                self._answer.close()
        finally:
            self._place.give_back()
