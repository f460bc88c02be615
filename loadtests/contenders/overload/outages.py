"""A dependency that dies, hangs, drags or fails now and then: how long until it is left alone, and until it is back.

Redis behind a proxy that does these things, asked by eight threads through one guard as the shop's clients are.
"""

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.conf import settings

from loadtests.figures import Sample
from loadtests.house import House
from resilience.breaker import CLOSED, OPEN, BreakerOpen, Thresholds
from resilience.guard import Guard
from resilience.retry import Retrying
from tests.crowd import at_once
from tests.faults.fault_proxy import FaultProxy
from tests.faults.faults import PASS, Fault, Latency, NeverRead, Refuse, Reset

CALLERS = 8
#: Seconds that a caller waits for an answer, and between two of its calls.
TIMEOUT_SECONDS, PAUSE_SECONDS = 0.1, 0.02
#: Who drags answers late, and not too late: for that case alone callers are as patient.
PATIENT_SECONDS = 1.0
#: Seconds of calls that work before the fault, and that anything may take.
HEALTHY_SECONDS, GIVE_UP_SECONDS = 0.3, 15.0
#: Milliseconds of each answer of the call that must not stand in line.
ANSWER_MS = 50
#: Three of five fail, never three in a row.
SIXTY_PER_CENT = (True, True, False, True, False)
#: Calls in a full outage, half as many as a second has for each of the callers.
CALLS_IN_OUTAGE = 400
#: Between two looks at the breaker.
LOOK_SECONDS = 0.0005

QUESTION = b"PING\r\n"


class Outages:
    def __init__(self, house: House) -> None:
        self._limits = Thresholds()
        logging.getLogger("resilience").setLevel(logging.CRITICAL)  # what fails is asked for

    def measure(self, seconds: float) -> list[Sample]:
        return list(self._samples())

    def _samples(self) -> Iterator[Sample]:
        dragging = Latency(down_ms=1.25 * self._limits.slow_seconds * 1000)
        opened, closed = self._strike(Refuse(dropping=True))
        yield Sample(opened * 1000, "ms", "killed, until it opens")
        yield Sample(closed / self._limits.open_seconds, "open times", "healed, until it closes")
        opened, _ = self._strike(NeverRead())
        yield Sample(opened / TIMEOUT_SECONDS, "timeouts", "hung, until it opens")
        opened, _ = self._strike(dragging, PATIENT_SECONDS)
        yield Sample(opened / self._limits.window_seconds, "windows", "slow, until it opens")
        yield Sample(_calls_until_open(Guard("bench")), "calls", "60 % failing, until it opens")
        yield Sample(_together_seconds() * 1000, "ms", f"{CALLERS} calls of {ANSWER_MS} ms at once")
        yield Sample(_amplification(), "x", "requests in an outage")

    def _strike(self, fault: Fault, timeout_seconds: float = TIMEOUT_SECONDS) -> tuple[float, float]:
        """Seconds from the fault to the opening, and from the healing to the closing."""
        guard = Guard("bench", at_once=CALLERS, thresholds=self._limits)
        with FaultProxy(_redis()) as proxy, _callers(guard, proxy, timeout_seconds):
            time.sleep(HEALTHY_SECONDS)
            proxy.fault = fault
            opened = _seconds_until(lambda: guard.breaker.state == OPEN)
            proxy.heal()
            return opened, _seconds_until(lambda: guard.breaker.state == CLOSED)


def _redis() -> str:
    return settings.STOCK_REDIS_URL.removeprefix("unix://").partition("?")[0]


def ask(proxy: FaultProxy, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """A connection, a question, an answer. Raises OSError, as clients do when it does not come."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        connection.connect(str(proxy.address))
        connection.sendall(QUESTION)
        if not connection.recv(len(QUESTION)):
            raise ConnectionResetError("ended without an answer")


@contextmanager
def _callers(guard: Guard, proxy: FaultProxy, timeout_seconds: float) -> Iterator[None]:
    """Threads that ask all the time, and take what comes."""
    over = threading.Event()

    def keep_asking() -> None:
        while not over.wait(PAUSE_SECONDS):
            with suppress(OSError, BreakerOpen), guard.watching():
                ask(proxy, timeout_seconds)

    threads = [threading.Thread(target=keep_asking, daemon=True) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _seconds_until(condition: Callable[[], bool]) -> float:
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > GIVE_UP_SECONDS:
            raise TimeoutError(f"nothing happened in {GIVE_UP_SECONDS} s")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - begun


def _calls_until_open(guard: Guard) -> int:
    with FaultProxy(_redis()) as proxy:
        for calls, fails in enumerate(itertools.cycle(SIXTY_PER_CENT), start=1):
            proxy.fault = Reset() if fails else PASS
            with suppress(OSError), guard.watching():
                ask(proxy)
            if guard.breaker.state == OPEN:
                return calls
            if calls == CALLS_IN_OUTAGE:
                raise TimeoutError(f"still closed after {calls} calls")
    raise AssertionError("a cycle has no end")


def _together_seconds() -> float:
    guard = Guard("bench", at_once=CALLERS)

    def one(_: int) -> tuple[float, float]:
        begun = time.perf_counter()
        with guard.watching():
            ask(proxy, PATIENT_SECONDS)
        return begun, time.perf_counter()

    with FaultProxy(_redis()) as proxy:
        proxy.fault = Latency(down_ms=ANSWER_MS)
        times = at_once(range(CALLERS), one)
    return max(end for _, end in times) - min(begun for begun, _ in times)


def _amplification() -> float:
    """What the dependency hears for each call, when none works and no breaker spares it: retries alone decide."""
    retrying = Retrying("bench", on=OSError)

    def some(_: int) -> None:
        for _call in range(CALLS_IN_OUTAGE // CALLERS):
            with suppress(OSError):
                retrying.call(lambda: ask(proxy))

    with FaultProxy(_redis(), counting=[QUESTION]) as proxy:
        proxy.fault = Reset()
        at_once(range(CALLERS), some)
        return proxy.requests(QUESTION) / CALLS_IN_OUTAGE
