"""One guard for all who would ask a server for nothing."""

from collections.abc import Sequence

import pytest

from resilience.empty import nothing_for_nothing

asked: list[object] = []


@nothing_for_nothing(returns=dict)
def levels(offer_ids: Sequence[int], *, of_whom: str = "all") -> dict[int, str]:
    """The levels of some offers."""
    asked.append(offer_ids)
    return dict.fromkeys(offer_ids, of_whom)


@nothing_for_nothing(of="endings")
def settle(offer_id: int, endings: Sequence[str]) -> None:
    asked.append(endings)


class Tier:
    @nothing_for_nothing(returns=list)
    def read(self, names: Sequence[str]) -> list[str]:
        asked.append(names)
        return list(names)


@pytest.fixture(autouse=True)
def nobody_was_asked() -> None:
    asked.clear()


@pytest.mark.parametrize("nothing", [[], (), set(), {}, "", None])
def test_nothing_is_answered_without_a_call(nothing: Sequence[int]) -> None:
    """The empty answer of the right type, by position and by name, from functions and methods."""
    assert levels(nothing) == {}
    assert levels(offer_ids=nothing, of_whom="me") == {}
    assert settle(1, nothing) is None  # type: ignore[arg-type, func-returns-value]
    assert settle(offer_id=1, endings=nothing) is None  # type: ignore[arg-type, func-returns-value]
    assert Tier().read(nothing) == []  # type: ignore[arg-type]
    assert asked == []


def test_something_is_asked_for() -> None:
    """With all other arguments as they came."""
    assert levels([1, 2], of_whom="me") == {1: "me", 2: "me"}
    assert Tier().read(names=["a"]) == ["a"]
    settle(0, ["paid"])
    assert asked == [[1, 2], ["a"], ["paid"]]


def test_every_empty_answer_is_a_new_one() -> None:
    """Whoever adds to it changes nobody else's."""
    levels([])[1] = "mine"

    assert levels([]) == {}


def test_an_argument_that_was_left_out_is_an_error() -> None:
    """The function's own."""
    with pytest.raises(TypeError, match="offer_ids"):
        levels()  # type: ignore[call-arg]


def test_a_guard_of_a_parameter_that_is_not_there_is_refused() -> None:
    """When the module is read, not in the moment that it should help."""
    with pytest.raises(TypeError, match="no parameter keys"):
        nothing_for_nothing(of="keys")(levels)


def test_the_function_keeps_its_name() -> None:
    """For those who read it, and for those who look for functions."""
    assert (levels.__name__, levels.__doc__) == ("levels", "The levels of some offers.")
