"""A retry helps whoever met a hiccup, and is no burden to what is down."""

import socket

import pytest
from celery import Celery

from resilience import deadline
from resilience.breaker import Breaker, BreakerOpen, Thresholds
from resilience.deadline import DeadlinePassed
from resilience.refused import Refused
from resilience.retry import Budget, Policy, Retrying, TaskPolicy
from tests.crowd import at_once
from tests.faults.fault_proxy import FaultProxy
from tests.forked import works_in_a_fork
from tests.free_ports import free_port

#: Nobody has to wait between attempts in a test.
NO_PAUSE = Policy(pause_seconds=0)
#: Seconds that a call to a neighbour takes at most.
TIMEOUT_SECONDS = 5.0


class Hiccup(Exception):
    """May be tried again."""


class SaidNo(Hiccup, Refused):
    """A kind of hiccup by its class, and a refusal all the same."""


class Call:
    """Fails so often with an error, then answers how often it was made."""

    def __init__(self, failures: int = 10**6, error: type[Exception] = Hiccup) -> None:
        self.failures, self.error, self.made = failures, error, 0

    def __call__(self) -> int:
        self.made += 1
        if self.made <= self.failures:
            raise self.error
        return self.made


def retrying(budget: Budget | None = None) -> Retrying:
    return Retrying("the neighbour", on=Hiccup, policy=NO_PAUSE, budget=budget)


# --- One call


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_what_works_in_the_end_is_answered(failures: int) -> None:
    """As many attempts as it took, and not one more."""
    assert retrying().call(Call(failures)) == failures + 1


def test_the_third_failure_is_raised() -> None:
    """Three attempts, and the caller hears what the last one raised."""
    call = Call()

    with pytest.raises(Hiccup):
        retrying().call(call)

    assert call.made == 3


@pytest.mark.parametrize("error", [ValueError, SaidNo, DeadlinePassed])
def test_what_nobody_named_or_somebody_refused_is_never_tried_again(error: type[Exception]) -> None:
    """An error of ours, a no on purpose, a deadline: once, also when the class is a kind of what was named."""
    call = Call(error=error)

    with pytest.raises(error):
        Retrying("the neighbour", on=(Hiccup, DeadlinePassed), policy=NO_PAUSE).call(call)

    assert call.made == 1


def test_an_open_breaker_is_asked_once() -> None:
    """It has just said that nobody should try."""
    breaker, call = Breaker("the neighbour", Thresholds(failures_in_a_row=1)), Call()
    with pytest.raises(Hiccup), breaker.watching():
        call()

    def watched() -> int:
        with breaker.watching():
            return call()

    with pytest.raises(BreakerOpen):
        Retrying("the neighbour", on=Exception, policy=NO_PAUSE).call(watched)

    assert call.made == 1


def test_layers_do_not_multiply() -> None:
    """Three attempts around three attempts are three, and the one further out makes them."""
    call = Call()

    with pytest.raises(Hiccup):
        retrying().call(lambda: retrying().call(call))

    assert call.made == 3


def test_the_next_call_may_retry_again() -> None:
    """What a call leaves behind, also by an error, does not make the next one an inner one."""
    asking = retrying()
    with pytest.raises(Hiccup):
        asking.call(Call())

    assert asking.call(Call(failures=2)) == 3


# --- The deadline


def test_nobody_waits_for_a_retry_that_comes_too_late() -> None:
    """The pause would not end before the deadline: the error comes at once, and nothing was paid for."""
    call, budget = Call(), Budget("the neighbour")
    asking = Retrying("the neighbour", on=Hiccup, budget=budget)

    with deadline.within(deadline.LEAST_SECONDS), pytest.raises(Hiccup):
        asking.call(call)

    assert call.made == 1
    assert budget.retries_left == Budget("the neighbour").retries_left


def test_pauses_are_drawn_below_a_bound_that_doubles() -> None:
    """From nothing to 0.1, 0.2, 0.4 s and never more than that: a thousand draws of each fill their range."""
    policy = Policy(pause_seconds=0.1, pause_maximum_seconds=0.4)

    for failures, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (9, 0.4)):
        pauses = [policy.pause_after(failures) for _ in range(1_000)]
        assert 0 <= min(pauses) < bound / 10
        assert bound * 0.9 < max(pauses) <= bound


# --- The budget


def test_ten_successes_pay_for_one_retry() -> None:
    """No credit at first: nine successes are not enough, the tenth is."""
    budget = Budget("the neighbour", retries_maximum=10)
    while budget.spend():
        pass

    for _ in range(9):
        retrying(budget).call(Call(failures=0))
    assert budget.retries_left == 0
    retrying(budget).call(Call(failures=0))
    assert budget.retries_left == 1


def test_nobody_saves_for_a_storm() -> None:
    """A day of successes pays for no more retries than the maximum."""
    budget = Budget("the neighbour", retries_maximum=2)

    for _ in range(1_000):
        budget.earn()

    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_the_budget_is_shared_by_all_threads_and_adds_up() -> None:
    """Twenty at once, each failing for good: together they retry as often as there was budget for."""
    calls, asking = [Call() for _ in range(20)], retrying(Budget("the neighbour", retries_maximum=5))

    def fail(call: Call) -> None:
        with pytest.raises(Hiccup):
            asking.call(call)

    at_once(calls, fail)

    assert sum(call.made for call in calls) == 25


def test_a_full_outage_hears_ten_percent_more_at_most() -> None:
    """A thousand calls to a port at which nobody answers: the proxy before it counts what really arrives."""
    asking = Retrying("the neighbour", on=OSError)

    def ask(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, TIMEOUT_SECONDS) as neighbour:
            if answer := neighbour.recv(1):
                return answer
        raise ConnectionError("closed without an answer")

    with FaultProxy(("127.0.0.1", free_port())) as proxy:
        assert isinstance(proxy.address, tuple)
        address = proxy.address
        for _ in range(1_000):
            with pytest.raises(OSError):  # noqa: PT011  # refused, reset or closed: whichever the kernel says first
                asking.call(lambda: ask(address))

        assert 1_000 < proxy.connections <= 1_100
    assert asking.budget.retries_left == 0


# --- Configuration


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Policy(attempts=0),
        lambda: Policy(attempts=4),
        lambda: Policy(pause_seconds=-1),
        lambda: Policy(pause_seconds=2, pause_maximum_seconds=1),
        lambda: Budget("the neighbour", successes_for_one=0),
        lambda: Budget("the neighbour", retries_maximum=-1),
        lambda: TaskPolicy(retries=-1),
        lambda: TaskPolicy(retries=1, pause_seconds=0),
        lambda: TaskPolicy(retries=1, pause_seconds=9, pause_maximum_seconds=8),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(wrong: object) -> None:
    """When it is configured, not in the next outage."""
    with pytest.raises(ValueError, match=r"must be|no "):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("retries", "error", "made"), [(0, Hiccup, 1), (5, Hiccup, 6), (5, SaidNo, 1), (5, ValueError, 1)]
)
def test_celery_understands_a_task_policy(retries: int, error: type[Exception], made: int) -> None:
    """Celery's own machinery, without a broker: it runs the task as often as the policy says."""
    app, call = Celery("policies", set_as_current=False), Call(error=error)

    @app.task(name=f"{retries} for {error.__name__}", **TaskPolicy(retries).options(on=Hiccup))
    def task() -> int:
        return call()

    result = task.apply()

    assert result.state == "FAILURE"
    assert call.made == made


def test_a_fork_has_a_lock_of_its_own() -> None:
    """Forked while another thread holds the budget's: the child retries, and does not wait for a thread it has not."""
    budget = Budget("the neighbour")

    with budget._changing:
        assert works_in_a_fork(lambda: budget.earn())
