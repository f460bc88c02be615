"""Group commit: the wishes that wait at the same moment, of all threads and for all offers, go in one round trip.

One round trip to a Redis that writes to its disk before it answers costs nearly the same for one wish and for a
hundred. So whoever finds no trip on its way makes one, and who comes meanwhile travels together with the next.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from django.conf import settings
from redis.connection import AbstractConnection

from inventory import _keys, doorbell
from inventory._connection import fresh, pooled, stock_redis
from inventory._scripts import Call, Script
from inventory.outcomes import Answer, AnswerLost, InventoryUnavailable, Outcome, Wish
from resilience.batching import AnswerLate, Batcher, NotSent

#: Wishes one script call takes; more would keep Redis from everybody else for over a millisecond.
SCRIPT_WISHES = 128
#: Callers in one trip: more than a process has threads, and about four milliseconds of Redis.
TRIP_CALLERS = 256
#: Callers that may wait for the next trip; at 20 000 reservations a second, the last of them is answered in 50 ms.
QUEUE_CALLERS = 1_024
#: Seconds after which a buyer hears something, whatever Redis does.
HEARD_SECONDS = 0.3
#: Seconds a second try has for each of its steps at least, when the first has used up all of a buyer's time.
SECOND_TRY_SECONDS = 0.05

#: Wishes for one offer, by one caller.
Request = tuple[int, Sequence[Wish]]

_reserve = Script("reserve.lua")


def commit(offer_id: int, wishes: Sequence[Wish]) -> list[Answer]:
    """An Answer for each wish, in order, within HEARD_SECONDS or little more.

    Raises ResponseError when the script itself broke; that strikes only those whose wishes it carried.
    """
    try:
        return batcher.call((offer_id, wishes), time.monotonic() + HEARD_SECONDS)
    except NotSent:
        return _all(wishes, Outcome.BUSY)
    except AnswerLate:
        return _all(wishes, Outcome.UNKNOWN)


def _all(wishes: Sequence[Wish], outcome: Outcome) -> list[Answer]:
    return [Answer(wish.reservation_id, outcome) for wish in wishes]


def _send(requests: Sequence[Request]) -> list[list[Answer] | Exception]:
    """Make the trip: one script call for each offer and each SCRIPT_WISHES of its wishes."""
    calls = list(_script_calls(requests))
    replies = _ask_twice(calls)
    if any(isinstance(reply, list) and reply[0] for reply in replies):
        doorbell.ring(doorbell.DRAIN)

    answers: dict[int, list[Answer | Exception]] = defaultdict(list)
    for (offer_id, wishes), reply in zip(calls, replies, strict=True):
        answers[offer_id] += _answers(wishes, reply)
    in_turn = {offer_id: iter(its_answers) for offer_id, its_answers in answers.items()}
    return [_share(in_turn[offer_id], len(wishes)) for offer_id, wishes in requests]


def _script_calls(requests: Sequence[Request]) -> Iterator[Request]:
    wanted: dict[int, list[Wish]] = defaultdict(list)
    for offer_id, wishes in requests:
        wanted[offer_id] += wishes
    for offer_id, wishes in wanted.items():
        for start in range(0, len(wishes), SCRIPT_WISHES):
            yield offer_id, wishes[start : start + SCRIPT_WISHES]


def _ask_twice(calls: Sequence[Request]) -> list[list[Any] | Exception]:
    """What became of each script call. Those whose answers are lost go once more, in what is left of a buyer's time:
    the reservation ids make the second call find what the first one did."""
    started = time.monotonic()
    scripts = [(_keys.all_of(offer_id), _arguments(wishes)) for offer_id, wishes in calls]
    replies = _ask(scripts, pooled(stock_redis()))

    lost = [at for at, reply in enumerate(replies) if isinstance(reply, AnswerLost)]
    if lost:
        left = max(HEARD_SECONDS - (time.monotonic() - started), SECOND_TRY_SECONDS)
        again = _ask([scripts[at] for at in lost], fresh(stock_redis(), left))
        for at, reply in zip(lost, again, strict=True):
            if not isinstance(reply, InventoryUnavailable):  # nothing was done now, but maybe by the first call
                replies[at] = reply
    return replies


def _arguments(wishes: Sequence[Wish]) -> list[int | str]:
    arguments: list[int | str] = [settings.EVENTS_WAITING_MAXIMUM]
    for wish in wishes:
        arguments += [wish.reservation_id, wish.buyer_id, wish.units]
    return arguments


def _ask(scripts: Sequence[Call], connecting: AbstractContextManager[AbstractConnection]) -> list[Any]:
    try:
        return _reserve.run_each(scripts, connecting)
    except InventoryUnavailable as error:
        return [error] * len(scripts)


def _answers(wishes: Sequence[Wish], reply: list[Any] | Exception) -> Sequence[Answer | Exception]:
    match reply:
        case [_, epoch, at_ms, *words]:
            return [
                Answer(wish.reservation_id, Outcome(word), int(epoch), int(at_ms))
                for wish, word in zip(wishes, words, strict=True)
            ]
        case InventoryUnavailable():
            return _all(wishes, Outcome.UNAVAILABLE)
        case AnswerLost():
            return _all(wishes, Outcome.UNKNOWN)
        case broken:
            return [broken] * len(wishes)


def _share(answers: Iterator[Answer | Exception], count: int) -> list[Answer] | Exception:
    """The next answers are one caller's, who hears of the first that broke instead."""
    mine: list[Answer] = []
    for answer in islice(answers, count):
        if isinstance(answer, Exception):
            return answer
        mine.append(answer)
    return mine


#: Of this process. Its counters are for the metrics.
batcher: Batcher[Request, list[Answer]] = Batcher(_send, batch_maximum=TRIP_CALLERS, queue_maximum=QUEUE_CALLERS)
