"""Many callers, few batches: who travels with whom, who is refused, and who hears what when sending goes wrong."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from resilience.batching import AnswerLate, Batcher, NotSent, QueueFull, _Call
from tests.crowd import PATIENCE_SECONDS, eventually

#: Calls of which none may be forgotten, by a crowd and by two people. Soak: `SOAK_CALLS=1000000 pytest -k forgotten`.
CALLS = int(os.environ.get("SOAK_CALLS", "200000"))
#: Two people wait for each other after each call, which takes ten times as long.
CALLS_OF_TWO = CALLS // 8
#: Seconds between two of Python's switches from thread to thread: in these tests they happen everywhere.
SWITCH_SECONDS = 1e-5
#: Seconds to a deadline that shall pass while its caller waits to be sent.
SOON = 0.05
#: Seconds to a deadline that shall pass after its caller was sent, also on a machine that stumbles.
LATER = 0.5
#: Threads that may be in one test.
CROWD = 48


class Line:
    """A batcher whose batches leave when the test has let them go. The answer to `a` is `a!`, unless told otherwise."""

    def __init__(self, *, batch_maximum: int = 100, queue_maximum: int = 100) -> None:
        self.batcher = Batcher(self._send, batch_maximum=batch_maximum, queue_maximum=queue_maximum)
        self.sent: list[str] = []
        self.senders: list[int] = []
        #: What a batch with this request in it fails with, and what this request alone is answered.
        self.raised: dict[str, BaseException] = {}
        self.answers: dict[str, str | Exception] = {}
        self._may_go = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(CROWD)

    def _send(self, requests: Sequence[str]) -> list[str | Exception]:
        self.sent.append("".join(requests))
        self.senders.append(threading.get_ident())
        assert self._may_go.acquire(timeout=PATIENCE_SECONDS)
        for request in requests:
            if request in self.raised:
                raise self.raised[request]
        return [self.answers.get(request, f"{request}!") for request in requests]

    def let_go(self) -> None:
        """All that are away or will be."""
        self._may_go.release(1_000)

    def let_one_go(self) -> None:
        """The batch that is away; when this returns, those who waited are."""
        before = len(self.sent)
        self._may_go.release()
        eventually(lambda: len(self.sent) > before)

    def call(self, request: str, seconds: float = PATIENCE_SECONDS) -> "Future[str]":
        """Somebody asks, and is on the way, waits, or has been refused when this returns."""

        def stood() -> int:
            return sum(map(len, self.sent)) + self.batcher.waiting

        before = stood()
        answer = self._pool.submit(lambda: self.batcher.call(request, time.monotonic() + seconds))
        eventually(lambda: answer.done() or stood() > before)
        return answer

    def close(self) -> None:
        self.let_go()
        self._pool.shutdown()


@pytest.fixture
def make_line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(**limits: int) -> Line:
        lines.append(Line(**limits))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    return make_line()


def heard(answer: "Future[str]") -> str:
    return answer.result(PATIENCE_SECONDS)


def in_time() -> float:
    return time.monotonic() + PATIENCE_SECONDS


def test_who_is_alone_sends_at_once(line: Line) -> None:
    """Nothing is away: the request goes on its caller's own thread, as a batch of one."""
    line.let_go()

    assert line.batcher.call("a", in_time()) == "a!"
    assert line.sent == ["a"]
    assert line.senders == [threading.get_ident()]


def test_who_comes_meanwhile_travels_together(line: Line) -> None:
    """Five gather while one is away, and go together in the sequence of their coming. Each hears its own answer."""
    answers = [line.call(request) for request in "abcdef"]

    line.let_go()

    assert [heard(answer) for answer in answers] == ["a!", "b!", "c!", "d!", "e!", "f!"]
    assert line.sent == ["a", "bcdef"]


def test_what_was_sent_is_counted(line: Line) -> None:
    """For the metrics: batches, requests, the largest batch, and how many wait now."""
    answers = [line.call(request) for request in "abcd"]
    assert line.batcher.waiting == 3

    line.let_go()
    [heard(answer) for answer in answers]

    assert (line.batcher.batches, line.batcher.requests, line.batcher.largest_batch) == (2, 4, 3)
    assert line.batcher.waiting == 0


def test_a_batch_has_a_maximum(make_line: Callable[..., Line]) -> None:
    """Who does not fit goes with the next one, still first come first served."""
    line = make_line(batch_maximum=2)
    answers = [line.call(request) for request in "abcdef"]

    line.let_go()

    assert [heard(answer) for answer in answers] == ["a!", "b!", "c!", "d!", "e!", "f!"]
    assert line.sent == ["a", "bc", "de", "f"]


def test_a_full_queue_refuses_at_once(make_line: Callable[..., Line]) -> None:
    """Two may wait; the third is told so, and never sent. When they have left there is room again."""
    line = make_line(queue_maximum=2)
    answers = [line.call(request) for request in "abc"]

    with pytest.raises(QueueFull):
        heard(line.call("d"))

    line.let_go()
    assert [heard(answer) for answer in answers] == ["a!", "b!", "c!"]
    assert heard(line.call("e")) == "e!"
    assert line.sent == ["a", "bc", "e"]


def test_who_waits_too_long_is_never_sent(line: Line) -> None:
    """A deadline passes while another batch is away: that request is withdrawn, those around it go."""
    first, before, late, after = line.call("a"), line.call("b"), line.call("x", SOON), line.call("c")

    with pytest.raises(NotSent):
        heard(late)

    line.let_go()
    assert [heard(answer) for answer in (first, before, after)] == ["a!", "b!", "c!"]
    assert line.sent == ["a", "bc"]


def test_who_is_late_is_left_out_before_it_notices(line: Line) -> None:
    """The sender itself looks at the deadlines: a caller may sleep past its own on a busy machine."""
    first = line.call("a")
    asleep: _Call[str, str] = _Call("x", time.monotonic())
    line.batcher._waiting.append(asleep)
    second = line.call("b")

    line.let_go()

    assert [heard(first), heard(second)] == ["a!", "b!"]
    assert line.sent == ["a", "b"]
    assert isinstance(asleep.result, NotSent)


def test_a_deadline_in_the_past_is_not_sent(line: Line) -> None:
    """Nobody waits for the answer, so nobody asks."""
    with pytest.raises(NotSent):
        line.batcher.call("a", time.monotonic())

    assert line.sent == []


def test_sent_and_not_heard_of_is_another_thing(line: Line) -> None:
    """A deadline passes while its request is away: it may have been carried out. The answer is nobody else's."""
    first, late = line.call("a"), line.call("b", LATER)
    line.let_one_go()
    assert heard(first) == "a!"

    with pytest.raises(AnswerLate):
        heard(late)

    third = line.call("c")
    line.let_go()
    assert heard(third) == "c!"
    assert line.sent == ["a", "b", "c"]


def test_a_failed_batch_fails_its_callers_alone(line: Line) -> None:
    """What `send` raises is raised to all of that batch, to nobody before it and nobody after."""
    line.raised["c"] = OSError("the wire broke")
    answers = [line.call(request) for request in "abcd"]
    line.let_one_go()
    after = line.call("e")

    line.let_go()

    assert heard(answers[0]) == "a!"
    for answer in answers[1:]:
        with pytest.raises(OSError, match="the wire broke"):
            heard(answer)
    assert heard(after) == "e!"


def test_a_failure_of_who_sends_alone_is_its_own(line: Line) -> None:
    """Who waits meanwhile is sent as if nothing had happened."""
    line.raised["a"] = OSError("the wire broke")
    alone, after = line.call("a"), line.call("b")

    line.let_go()

    with pytest.raises(OSError, match="the wire broke"):
        heard(alone)
    assert heard(after) == "b!"


@pytest.mark.parametrize("request_", ["a", "c"], ids=["alone", "in a batch"])
def test_an_exception_among_the_answers_is_for_one(line: Line, request_: str) -> None:
    """One request could not be answered; all others are."""
    line.answers[request_] = LookupError("no such thing")
    answers = {request: line.call(request) for request in "abcd"}

    line.let_go()

    with pytest.raises(LookupError):
        heard(answers.pop(request_))
    assert [heard(answer) for answer in answers.values()] == [f"{request}!" for request in answers]


def test_too_few_answers_are_nobodys(make_line: Callable[..., Line]) -> None:
    """Nobody can tell whose are missing, so none are given out."""
    batcher: Batcher[str, str] = Batcher(lambda requests: [], batch_maximum=1, queue_maximum=1)

    for _ in range(2):
        with pytest.raises(ValueError, match="0 results for 1 requests"):
            batcher.call("a", in_time())


def test_ctrl_c_in_who_sends_alone_strands_nobody(line: Line) -> None:
    """The interrupted caller passes on what it holds before it goes."""
    line.raised["a"] = KeyboardInterrupt()
    interrupted, after = line.call("a"), line.call("b")

    line.let_go()

    with pytest.raises(KeyboardInterrupt):
        heard(interrupted)
    assert heard(after) == "b!"


def test_an_order_to_exit_does_not_end_the_sender(line: Line) -> None:
    """SystemExit in the batcher's thread: its batch was sent and hears nothing, the next one goes."""
    line.raised["b"] = SystemExit()
    first, second = line.call("a"), line.call("b")
    line.let_one_go()
    third = line.call("c")

    line.let_go()

    assert heard(first) == "a!"
    with pytest.raises(AnswerLate, match="SystemExit"):
        heard(second)
    assert heard(third) == "c!"


def test_ctrl_c_in_who_waits_withdraws(line: Line) -> None:
    """Nobody is left to hear the answer, so nothing is sent."""
    first = line.call("a")

    def interrupt() -> None:
        eventually(lambda: line.batcher.waiting)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        line.batcher.call("x", in_time())

    line.let_go()
    assert heard(first) == "a!"
    assert line.sent == ["a"]


def test_a_forked_child_begins_anew(line: Line) -> None:
    """Forked while a batch is away and others wait: the child sends what it is asked, and only that."""
    answers = [line.call(request) for request in "abc"]

    child = os.fork()
    if not child:
        try:
            line.sent.clear()
            line.let_go()
            with ThreadPoolExecutor(8) as pool:  # enough for its own thread to be needed
                list(pool.map(lambda n: line.batcher.call(str(n % 10), in_time()), range(1_000)))
            os._exit(0 if sorted("".join(line.sent)) == sorted("0123456789" * 100) else 1)
        finally:
            os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    line.let_go()
    assert [heard(answer) for answer in answers] == ["a!", "b!", "c!"]
    assert line.sent == ["a", "bc"]


@pytest.fixture
def nervous() -> Iterator[None]:
    """Python switches between threads as often as it can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(usual)


class Wire:
    """Answers requests with themselves, after others may have run. Breaks when it is used twice at once."""

    def __init__(self) -> None:
        self._away = threading.Lock()

    def send(self, requests: Sequence[int]) -> list[int]:
        assert self._away.acquire(blocking=False), "two batches are away"
        time.sleep(0)
        self._away.release()
        return list(requests)


@pytest.mark.usefixtures("nervous")
def test_nobody_is_forgotten_in_a_crowd() -> None:
    """Every call of 48 people who never stop gets its own answer, and no two batches are away at once."""
    batcher: Batcher[int, int] = Batcher(Wire().send, batch_maximum=20, queue_maximum=CROWD)

    def ask(caller: int) -> int:
        mine = range(caller, CALLS, CROWD)
        return sum(batcher.call(request, in_time()) == request for request in mine)

    with ThreadPoolExecutor(CROWD) as pool:
        answered = sum(pool.map(ask, range(CROWD)))

    assert answered == batcher.requests == CALLS
    assert batcher.batches < CALLS
    assert 1 < batcher.largest_batch <= 20
    assert batcher.waiting == 0


@pytest.mark.usefixtures("nervous")
def test_nobody_is_forgotten_when_all_others_have_left() -> None:
    """Two ask at once and then wait for each other: whoever is left behind, nobody comes by to be sent with."""
    batcher: Batcher[int, int] = Batcher(Wire().send, batch_maximum=20, queue_maximum=2)
    start_line = threading.Barrier(2)

    def ask(caller: int) -> int:
        answered = 0
        for request in range(caller, CALLS_OF_TWO, 2):
            start_line.wait(2 * PATIENCE_SECONDS)
            answered += batcher.call(request, in_time()) == request
        return answered

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(ask, range(2))) == CALLS_OF_TWO
