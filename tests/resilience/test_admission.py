"""The waiting room: who comes in, in which order, who is refused at once, and that no place is ever lost."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from resilience.admission import (
    GAP_LONGEST_SECONDS,
    GAP_WEIGHT,
    IMPORTANCES,
    SHARDS,
    Budgets,
    Verdict,
    WaitingRoom,
)
from resilience.comeback import Comeback
from resilience.queue_figures import DELAY_BOUNDS, Figures, QueueFigures
from tests.crowd import PATIENCE_SECONDS, at_once, eventually

#: Nobody's budget ends during a test.
PATIENT = Budgets(least_seconds=10.0, most_seconds=10.0, burst_seconds=10.0)
#: Everybody's ends at once, and no queue counts as a burst.
HASTY = Budgets(least_seconds=0.001, most_seconds=0.001, burst_seconds=0.001, burst_lasts_seconds=0.001)
#: A queue is never more than a burst.
ALWAYS_A_BURST = Budgets(burst_lasts_seconds=10.0)
#: A queue is a burst for no time at all.
NEVER_A_BURST = Budgets(burst_seconds=0.001, burst_lasts_seconds=0.001)

THREADS = 64


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


def full(budgets: Budgets = PATIENT, slots: int = 1, threads: int = THREADS) -> WaitingRoom:
    """A room in which all places are taken."""
    room = WaitingRoom(slots, threads, budgets, lane="test")
    assert [room.enter(0, 0) for _ in range(slots)] == [Verdict.ADMITTED] * slots
    return room


def seated(pool: ThreadPoolExecutor, room: WaitingRoom, *who: tuple[int, int]) -> list[Future[Verdict]]:
    """Each of them, an importance and a shard, sits and waits, one after the other."""
    waiting = []
    for number, (importance, shard) in enumerate(who, room.waiting + 1):
        waiting.append(pool.submit(room.enter, importance, shard))
        eventually(lambda number=number: room.waiting == number)
    return waiting


def test_a_free_place_is_given_at_once() -> None:
    """Also to the least important, however long it has been on its way."""
    room = WaitingRoom(slots=3, threads=THREADS, lane="test")

    verdicts = [room.enter(0, 0, waited_seconds=60.0) for _ in range(3)]

    assert verdicts == [Verdict.ADMITTED] * 3
    assert room.is_full


@pytest.mark.parametrize(
    ("who", "called"),
    [
        ([(0, 0), (1, 0), (2, 0), (3, 0)], [3, 2, 1, 0]),
        ([(2, 9), (0, 127), (3, 0), (1, 50)], [2, 0, 3, 1]),
        ([(1, 5), (1, 90), (1, 40)], [1, 2, 0]),
        ([(2, 7), (2, 7), (2, 7)], [0, 1, 2]),
    ],
    ids=["by importance", "mixed", "by shard", "first come, first served"],
)
def test_who_is_called(pool: ThreadPoolExecutor, who: list[tuple[int, int]], called: list[int]) -> None:
    """Whoever ranks highest, and of equals the first who came; nobody before there is a place."""
    room = full()
    waiting = seated(pool, room, *who)

    for number, place in enumerate(called):
        assert sum(each.done() for each in waiting) == number
        room.leave()
        assert waiting[place].result(PATIENCE_SECONDS) is Verdict.ADMITTED


def test_the_hopeless_are_refused_without_a_wait() -> None:
    """Forty milliseconds until the next answer: too long for the least important, not for buyers."""
    room = full(NEVER_A_BURST)
    room._gap = 0.040

    assert room.enter(0, 0) is Verdict.HOPELESS
    assert room.waiting == 0
    assert room.enter(3, 0) is Verdict.EXPIRED  # it was let wait, and nobody left


def test_only_those_count_who_are_called_before(pool: ThreadPoolExecutor) -> None:
    """Ten unimportant ones wait: a buyer is the next, and one of them the eleventh."""
    room = full(Budgets(least_seconds=9.0, most_seconds=9.9, burst_seconds=0.001, burst_lasts_seconds=0.001))
    waiting = seated(pool, room, *[(0, 100)] * 10)
    room._gap = 0.9

    assert room.enter(0, 100) is Verdict.HOPELESS
    buyer = seated(pool, room, (3, 0))

    room.leave()
    assert buyer[0].result() is Verdict.ADMITTED
    _empty(room, waiting)


def _empty(room: WaitingRoom, waiting: list[Future[Verdict]]) -> None:
    for _ in waiting:
        room.leave()
    assert {each.result() for each in waiting} == {Verdict.ADMITTED}


def test_a_burst_is_waited_for() -> None:
    """Until a queue has stood for a while, even the least important may wait as long as it takes to pass."""
    room = full(ALWAYS_A_BURST)
    room._gap = 0.100

    assert room.enter(0, 0) is Verdict.EXPIRED

    room._budgets = NEVER_A_BURST
    assert room.enter(0, 0) is Verdict.HOPELESS


def test_a_queue_that_begins_after_a_quiet_while_is_a_burst() -> None:
    """What counts is how long this one stands, and not how long ago another one began."""
    room = full(Budgets())
    room._queue_began = float("-inf")
    room._gap = 0.100

    assert room.enter(0, 0) is Verdict.EXPIRED  # it was let wait, and nobody left


def test_the_unimportant_find_fewer_seats(pool: ThreadPoolExecutor) -> None:
    """A quarter of the seats are for everybody, all of them for the most important only."""
    room = full(slots=1, threads=30)  # 26 seats
    unimportant = seated(pool, room, *[(0, 0)] * 7)

    assert room.enter(0, 0) is Verdict.FULL
    important = seated(pool, room, *[(3, 127)] * 19)

    _empty(room, unimportant + important)


def test_the_lowest_stand_up_for_who_ranks_above_them(pool: ThreadPoolExecutor) -> None:
    """And hear so at once; the last who came of those goes first, and nobody rises for his equal."""
    room = full(slots=1, threads=6)  # four seats
    first, second = seated(pool, room, (1, 0), (1, 0))
    important = [pool.submit(room.enter, 3, 127) for _ in range(3)]
    eventually(lambda: room.waiting == 4 and second.done())
    assert second.result() is Verdict.FULL
    assert not first.done()

    important.append(pool.submit(room.enter, 3, 127))
    assert first.result(PATIENCE_SECONDS) is Verdict.FULL
    assert room.enter(3, 127) is Verdict.FULL
    assert room.enter(2, 0) is Verdict.FULL

    _empty(room, important)
    assert room._gave_way == set()


def test_a_wait_in_vain_leaves_nothing_behind() -> None:
    """Ten thousand who waited and went: the room is as empty as before, and its place is still to be had."""
    room = full(HASTY)
    room._gap = 0.0

    verdicts = {verdict for verdicts in at_once(range(20), lambda _: _tries(room, 500)) for verdict in verdicts}

    assert verdicts <= {Verdict.EXPIRED, Verdict.HOPELESS, Verdict.FULL}
    assert Verdict.EXPIRED in verdicts
    assert room._waiting == []
    room.leave()
    assert room.enter(0, 0) is Verdict.ADMITTED


def _tries(room: WaitingRoom, number: int) -> list[Verdict]:
    return [room.enter(random.randrange(IMPORTANCES), random.randrange(SHARDS)) for _ in range(number)]


def test_who_is_called_while_it_gives_up_goes_in(pool: ThreadPoolExecutor) -> None:
    """Its time is over, and before it can stand up its name is called: the place is its own."""
    room = full(Budgets(0.001, 0.001, 0.001, 0.001))
    room._gap = 0.0
    lock = _LockThatCalls(room)
    room._changing = lock  # type: ignore[assignment]

    assert room.enter(3, 0) is Verdict.ADMITTED

    assert lock.has_called
    assert room.waiting == 0


class _LockThatCalls:
    """The room's lock. Whoever takes it to stand up has just been called."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room, self._lock, self.has_called = room, room._changing, False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._room._waiting:
            self._room._waiting.pop()[2].release()  # what `leave` does
            self.has_called = True

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_no_place_is_lost_or_made() -> None:
    """Threads come, give up after a millisecond, or go in and leave: never more inside than places, and all are free
    afterwards."""
    room, most = WaitingRoom(3, THREADS, HASTY, lane="test"), list[int]()
    room._gap = 0.0
    now_inside, counting = [0], threading.Lock()

    def visit(_: int) -> int:
        admitted = 0
        for _ in range(300):
            if room.enter(random.randrange(IMPORTANCES), random.randrange(SHARDS)) is Verdict.ADMITTED:
                with counting:
                    now_inside[0] += 1
                    most.append(now_inside[0])
                sum(range(random.randrange(20_000)))
                with counting:
                    now_inside[0] -= 1
                room.leave()
                admitted += 1
        return admitted

    admitted = sum(at_once(range(24), visit))

    assert admitted == len(most) > 0
    assert max(most) <= 3
    assert room.waiting == 0
    assert [room.enter(0, 0) for _ in range(3)] == [Verdict.ADMITTED] * 3
    assert room.enter(0, 0) is not Verdict.ADMITTED


def test_time_on_the_way_is_part_of_the_wait() -> None:
    """Who has waited before the room for longer than its budget is refused as soon as it would have to wait again."""
    room = full(Budgets(burst_seconds=0.250))

    assert room.enter(3, 127, waited_seconds=0.3) is Verdict.HOPELESS
    room.leave()
    assert room.enter(3, 127, waited_seconds=0.3) is Verdict.ADMITTED


def test_the_gap_is_that_of_a_room_that_is_full() -> None:
    """A pause in which a place was free is nobody's waiting time."""
    room = full()
    room.leave()
    room._gap, room._gap_began = 0.0, time.monotonic() - GAP_LONGEST_SECONDS / 2

    room.enter(0, 0)
    room.leave()

    assert room.gap_seconds < GAP_LONGEST_SECONDS / 2 * GAP_WEIGHT


def test_a_hiccup_is_no_gap() -> None:
    """An answer that took a second because a server hung says nothing of the next one."""
    room = full()
    room._gap, room._gap_began = 0.010, float("-inf")

    room.leave()

    assert room.gap_seconds == 0.010


def test_the_figures_tell_what_happened() -> None:
    """By importance: who came, who was refused; and what it took those who waited."""
    room = full(NEVER_A_BURST)
    room._gap = 5.0

    room.enter(0, 0), room.enter(0, 0), room.enter(3, 0, waited_seconds=0.1)
    room.leave()
    for _ in range(3):
        room.enter(2, 0, waited_seconds=0.1)
        room.leave()

    eventually(lambda: room.figures(seconds=2.0).arrived == (3, 0, 3, 1))
    figures = room.figures(seconds=2.0)
    assert figures.refused == (2, 0, 0, 1)
    assert [figures.share_refused(importance) for importance in range(4)] == [2 / 3, 0.0, 0.0, 1.0]
    assert 0.1 <= figures.queue_delay_p90_seconds < 0.1 * 4 / 3


@pytest.mark.parametrize(
    ("nonsense", "complaint"),
    [
        ({"least_seconds": 0.3, "most_seconds": 0.2}, "least_seconds .* must be at most most_seconds"),
        ({"least_seconds": -1.0}, "least_seconds must be more than 0 and at most 10.0, not -1.0"),
        ({"most_seconds": 0.0}, "most_seconds must be more than 0"),
        ({"burst_seconds": float("nan")}, "burst_seconds must be more than 0"),
        ({"burst_lasts_seconds": 11.0}, "burst_lasts_seconds must be more than 0 and at most 10.0"),
    ],
)
def test_budgets_that_are_none(nonsense: dict[str, float], complaint: str) -> None:
    """Refused where they are made, with the name and the range."""
    with pytest.raises(ValueError, match=complaint):
        Budgets(**nonsense)


@pytest.mark.parametrize(("slots", "threads"), [(0, 64), (-1, 64), (4, 4), (58, 64)])
def test_rooms_that_are_none(slots: int, threads: int) -> None:
    """Without a place, or without a thread to wait on."""
    with pytest.raises(ValueError, match=r"slots must be|threads must be"):
        WaitingRoom(slots, threads)


def test_budgets_grow_by_the_same_factor() -> None:
    """From the least to the most, over all ranks."""
    budgets = Budgets(least_seconds=0.02, most_seconds=0.25).by_rank()

    assert len(budgets) == IMPORTANCES * SHARDS
    assert budgets[0] == pytest.approx(0.02)
    assert budgets[-1] == pytest.approx(0.25)
    assert budgets[1] / budgets[0] == pytest.approx(budgets[-1] / budgets[-2])


# --- The last second, and when to come back --------------------------------------------------------------------------


def test_the_past_falls_off() -> None:
    """Only slices that are over count, and one that comes round again begins with nothing."""
    figures = QueueFigures(2)
    figures.note(0, 100.0, refused=True, delay_seconds=None)
    figures.note(1, 101.7, refused=False, delay_seconds=0.02)

    assert figures.over(2.0, 102.1).arrived == (1, 1)
    assert figures.over(1.0, 102.1).arrived == (0, 1)
    assert figures.over(1.0, 104.0) == Figures((0, 0), (0, 0), 0.0)
    figures.note(1, 104.0, refused=False, delay_seconds=0.0)
    assert figures.over(1.0, 104.3).arrived == (0, 1)


def test_two_looks_in_a_row_see_a_burst_once() -> None:
    """Two windows that ask for a level are two, and not the same moment seen twice."""
    figures = QueueFigures(1)
    for _ in range(20):
        figures.note(0, 100.2, refused=True, delay_seconds=None)

    assert [figures.over(0.25, at).arrived for at in (100.24, 100.3, 100.55)] == [(0,), (20,), (0,)]


@pytest.mark.parametrize(
    ("delays", "least", "most"),
    [
        ([0.0] * 100, 0.0, 0.0),
        ([0.0] * 89 + [0.5] * 11, 0.5, 0.67),
        ([0.0] * 91 + [0.5] * 9, 0.0, 0.0),
        ([60.0] * 10, DELAY_BOUNDS[-1], DELAY_BOUNDS[-1]),
    ],
    ids=["no wait", "just so", "not yet", "beyond the last class"],
)
def test_nine_of_ten_waited_no_longer(delays: list[float], least: float, most: float) -> None:
    """To a third exactly, and never less than it was."""
    figures = QueueFigures(1)
    for delay in delays:
        figures.note(0, 100.0, refused=False, delay_seconds=delay)

    assert least <= figures.over(1.0, 100.3).queue_delay_p90_seconds <= most


def test_the_refused_are_sent_away_for_longer_while_too_many_come() -> None:
    """Ten are refused for each that is served: longer each second, up to a minute; later, back to two seconds."""
    now, seen = [0.0], [Figures((110, 0), (100, 0), 0.0)]
    comeback = Comeback(lambda: seen[0], clock=lambda: now[0])

    told = []
    for _ in range(8):
        now[0] += 1.0
        told.append(comeback.mean_seconds())
    assert told == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]

    seen[0] = Figures((100, 0), (20, 0), 0.0)  # a quarter of the served, nearly what it should be
    now[0] += 1.0
    assert comeback.mean_seconds() == 60.0
    seen[0] = Figures((100, 0), (0, 0), 0.0)
    now[0] += 1.0
    assert comeback.mean_seconds() == 30.0

    now[0] += 3600.0
    assert comeback.mean_seconds() == 2.0
