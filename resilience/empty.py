"""Asking for nothing: answered at once, without a trip.

    @nothing_for_nothing(returns=dict)
    def levels(offer_ids: Sequence[int]) -> dict[int, Levels]: ...

A client that is given nothing often asks all the same: `MGET` without keys is an error that Redis has to send, a
transaction around nothing is two trips, and `exclude(pk__in=[])` reads the whole table.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

Asking = ParamSpec("Asking")
Answer = TypeVar("Answer")


def nothing_for_nothing(
    *, returns: Callable[[], Any] = lambda: None, of: str = ""
) -> Callable[[Callable[Asking, Answer]], Callable[Asking, Answer]]:
    """Answer `returns()` when the first argument is empty, or the one that `of` names, and do not call the function.

    For collections only: an iterator cannot say that it is empty, and a queryset asks PostgreSQL to find out.
    """

    def guard(function: Callable[Asking, Answer]) -> Callable[Asking, Answer]:
        names = [name for name in signature(function).parameters if name != "self"]
        name = of or names[0]
        if name not in names:
            raise TypeError(f"{function.__qualname__} has no parameter {name}")
        at = list(signature(function).parameters).index(name)

        @wraps(function)
        def guarded(*args: Asking.args, **named: Asking.kwargs) -> Answer:
            given = args[at] if len(args) > at else named.get(name, True)  # left out: the call itself says so
            if not given:
                return returns()  # type: ignore[no-any-return]
            return function(*args, **named)

        return guarded

    return guard
