"""Polls of many shoppers in one trip: HMGETs that are wanted at the same moment travel together."""

import time
from collections.abc import Sequence
from typing import Any

from inventory._connection import ANSWER_SECONDS, asking_redis, stock_redis
from inventory.outcomes import InventoryUnavailable
from resilience.batching import AnswerLate, Batcher, NotSent
from resilience.empty import nothing_for_nothing

#: Callers in one trip, and that may wait for the next one: more than a process has threads.
TRIP_CALLERS = 256
QUEUE_CALLERS = 1_024

#: A hash and some of its fields.
Read = tuple[str, Sequence[str]]
#: The values of these fields, None where there is none.
Values = list[str | None]


@nothing_for_nothing(of="wanted", returns=list)
def read(wanted: Sequence[Read]) -> list[Values]:
    """What each read finds, in order. Raises InventoryUnavailable."""
    try:
        return _batcher.call(wanted, time.monotonic() + ANSWER_SECONDS)
    except (NotSent, AnswerLate) as error:
        raise InventoryUnavailable(str(error)) from error


def _send(callers: Sequence[Sequence[Read]]) -> list[list[Values] | Exception]:
    """One HMGET for each hash, with the fields that all callers want of it. A hash that is none strikes only those who
    asked for it."""
    fields: dict[str, dict[str, None]] = {}
    for wanted in callers:
        for key, names in wanted:
            fields.setdefault(key, {}).update(dict.fromkeys(names))

    with asking_redis():
        step = stock_redis().pipeline(transaction=False)
        for key, wanted_of_it in fields.items():
            step.hmget(key, list(wanted_of_it))
        answers = dict(zip(fields, step.execute(raise_on_error=False), strict=True))
    found = {
        key: answer if isinstance(answer, Exception) else dict(zip(fields[key], answer, strict=True))
        for key, answer in answers.items()
    }
    return [_result(wanted, found) for wanted in callers]


def _result(wanted: Sequence[Read], found: dict[str, Any]) -> list[Values] | Exception:
    broken = next((found[key] for key, _ in wanted if isinstance(found[key], Exception)), None)
    if broken:
        return InventoryUnavailable(str(broken))
    return [[found[key][name] for name in names] for key, names in wanted]


_batcher: Batcher[Sequence[Read], list[Values]] = Batcher(
    _send, batch_maximum=TRIP_CALLERS, queue_maximum=QUEUE_CALLERS
)
