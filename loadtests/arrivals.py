"""Arrivals of the open model under Locust: one Locust user is one *source* of people, not one person.

Locust's own users wait for their answers, so a slow server makes fewer of them come: asked for twice of what a server
could, plain users sent half of it and reported no failures. A source keeps its schedule instead: it starts each
arrival in a greenlet of its own, at random moments (Poisson) or at the opening (a herd), whatever became of the
earlier ones. So the number of users times their rate *is* the offered rate, with one process or with many.
"""

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from locust import User
from locust.env import Environment

from loadtests.book import Book
from loadtests.mix import Mix
from loadtests.plan import PEOPLE_A_SOURCE, Plan
from loadtests.records import METRONOME, PROCESSOR, Record
from loadtests.shapes import RATE_A_SOURCE, SHAPES

#: Seconds between two looks at how late this process is: as often as a hundred clicks a second would look.
BEAT_SECONDS = 0.02
#: Seconds between two looks at its processor.
PROCESSOR_SECONDS = 1.0
#: Seconds before the opening by which all who wait have come.
SETTLED_SECONDS = 1.5


class Part:
    """This process's part of the plan: its people, each of whom comes once, and the event that releases its herd."""

    def __init__(self, plan: Plan, people: list[tuple[int, str]], sources: int, environment: Environment) -> None:
        self.plan = plan
        self.book = Book(environment, plan)
        self.opened = Event()
        if SHAPES[plan.shape].written:
            self.mix = Mix([kind for _, kind in people], plan.host, self.book)
        self._people = iter(people)
        #: Those who come at random come again when all have come.
        self._comers = cycle(people)
        self._batch = max(PEOPLE_A_SOURCE, -(-len(people) // max(1, sources)))
        self._started = 0
        gevent.spawn(self._open)
        gevent.spawn(self._beat)
        gevent.spawn(self._weigh)

    def batch(self) -> Iterator[tuple[int, str]]:
        """The people of the next source."""
        return (person for person, _ in zip(self._people, range(self._batch), strict=False))

    def person(self) -> tuple[int, str]:
        """The next who comes at random."""
        return next(self._comers)

    def random(self) -> Random:
        """Of the next source: the same numbers in each run of a seed."""
        self._started += 1
        return Random(f"{self.plan.seed}/{self._started}")

    def _open(self) -> None:
        """Hold the herd until T0."""
        _sleep_until(self.book.now, self.plan.opens_at_ms / 1000)
        self.opened.set()

    def _beat(self) -> None:
        """A metronome: how late it is, everything in this process is."""
        at = self.book.now()
        while True:
            at += BEAT_SECONDS
            _sleep_until(self.book.now, at)
            now = self.book.now()
            self.book.note(Record(METRONOME, "", 0, at, now, now, 0))
            at = max(at, now - BEAT_SECONDS)

    def _weigh(self) -> None:
        """How much of a processor this process takes."""
        while True:
            worked, at = time.process_time(), self.book.now()
            gevent.sleep(PROCESSOR_SECONDS)
            now = self.book.now()
            percent = round(100 * (time.process_time() - worked) / max(now - at, 1e-3))
            self.book.note(Record(PROCESSOR, "", 0, at, at, now, percent))


def _sleep_until(now: Callable[[], float], moment: float) -> None:
    gevent.sleep(max(0.0, moment - now()))


class Source(User):
    """Subclasses say what an arrival does: `herded` for one who waits for the opening, `arrive` for one who comes."""

    abstract = True
    #: Given before the first source starts.
    part: ClassVar[Part]

    def run(self) -> None:
        """Locust's loop of tasks is what makes a closed model: a source has a schedule instead."""
        self._state = "running"
        self._greenlets = gevent.pool.Group()
        try:
            self._keep_the_schedule()
        except gevent.GreenletExit:
            pass
        finally:
            self._greenlets.kill()

    def _keep_the_schedule(self) -> None:
        plan, random = self.part.plan, self.part.random()
        if SHAPES[plan.shape].herd:
            self._gather(plan, random)
        else:
            self._pour(random)
        self._greenlets.join()  # until those who are under way have their answers, or Locust ends it

    def _gather(self, plan: Plan, random: Random) -> None:
        """People come until shortly before the opening, wait, and click at moments drawn over the spread."""
        last = plan.opens_at_ms / 1000 - SETTLED_SECONDS
        for number, cookie in self.part.batch():
            comes_at = random.uniform(self.part.book.now(), max(last, self.part.book.now()))
            clicks_after = random.uniform(0, plan.spread_seconds)
            self._greenlets.spawn(self._come, comes_at, number, cookie, clicks_after)

    def _come(self, at: float, number: int, cookie: str, clicks_after: float) -> None:
        _sleep_until(self.part.book.now, at)
        self.herded(number, cookie, at, clicks_after)

    def _pour(self, random: Random) -> None:
        """At exponential gaps; one who is late because this process is does not make the next one later."""
        at = self.part.book.now()
        while (at := at + random.expovariate(RATE_A_SOURCE)) * 1000 < self.part.plan.ends_at_ms:
            _sleep_until(self.part.book.now, at)
            self._greenlets.spawn(self.arrive, at, random)

    def herded(self, number: int, cookie: str, at: float, clicks_after: float) -> None:
        raise NotImplementedError

    def arrive(self, at: float, random: Random) -> Any:
        raise NotImplementedError
