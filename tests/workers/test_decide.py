"""One `decide`: whatever a plugin returns or raises becomes an Outcome or a DecideError, and nothing else."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NoReturn, cast

import pytest

from protocol.actions import Act, Action, Noop, Outcome
from protocol.expectations import MinimumOut, SharePrice
from protocol.limits import MAX_ACTIONS, MAX_TEXT_LENGTH, MAX_TRACEBACK_LENGTH
from tests.support.aio import run_async
from workers.decide import DecideError, decide, is_async
from workers.sdk import Context

CONTEXT = cast("Context", object())
ACTION = Action("mint", {"x": 1})


class Returning:
    """Plugins whose `decide` gives `result()`, in the loop or in a thread."""

    def __init__(self, result: Callable[[], Any]) -> None:
        self.result = result


class InLoop(Returning):
    async def decide(self, ctx: Context) -> Any:
        return self.result()


class InThread(Returning):
    def decide(self, ctx: Context) -> Any:
        return self.result()


ways = pytest.mark.parametrize("way", [InLoop, InThread])


def outcome_of(plugin: Any) -> Outcome:
    """What `decide` makes of it."""
    return run_async(decide(plugin.decide, CONTEXT))


def error_of(plugin: Any) -> DecideError:
    """The DecideError that it ends in."""
    with pytest.raises(DecideError) as caught:
        outcome_of(plugin)
    return caught.value


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """A function that raises it."""

    def function() -> NoReturn:
        raise error

    return function


def test_an_act_keeps_what_it_expects() -> None:
    """Beside a list, which expects nothing."""
    act = Act([ACTION], expect=[MinimumOut(5), SharePrice("nav", 50)])
    assert outcome_of(InLoop(lambda: act)) == act
    assert outcome_of(InLoop(lambda: [ACTION])) == Act([ACTION])
    assert "at most 8 expectations" in error_of(InThread(lambda: Act([ACTION], [MinimumOut(5)] * 9))).error


@ways
@pytest.mark.parametrize(
    "returned, outcome",
    [
        (Noop("quiet"), Noop("quiet")),
        ([ACTION], Act(actions=(ACTION,))),
        ((ACTION, ACTION), Act(actions=(ACTION, ACTION))),
    ],
    ids=["noop", "list", "tuple"],
)
def test_a_noop_or_actions_become_the_outcome(way: type[Returning], returned: Any, outcome: Outcome) -> None:
    """In the order in which they were returned."""
    assert outcome_of(way(lambda: returned)) == outcome


@ways
@pytest.mark.parametrize(
    "returned, reason",
    [
        (None, "decide returned a NoneType; it must return a list of Actions, an Act"),
        ("noop", "decide returned a str"),
        (ACTION, "decide returned a Action; it must return a list"),
        ({"a": ACTION}, "decide returned a dict"),
        ((action for action in [ACTION]), "decide returned a generator"),
        ([[ACTION]], "a list that holds a list; only Actions"),
        ([ACTION, Noop("quiet")], "a list that holds a Noop"),
        ([ACTION, None], "a list that holds a NoneType"),
        ([], "ValueError: an empty list of Actions says nothing: return a Noop with a reason"),
        ((), "ValueError: an empty list of Actions"),
        ([ACTION] * (MAX_ACTIONS + 1), "ValueError: at most 16 Actions"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_anything_else_is_an_error_that_says_what_was_returned(
    way: type[Returning], returned: Any, reason: str
) -> None:
    """And what should have been."""
    assert reason in error_of(way(lambda: returned)).error


def test_a_coroutine_out_of_a_plain_def_is_closed_and_explained() -> None:
    """A decorator that hides `async def`: the coroutine must not be left behind unawaited (warnings are errors)."""

    async def forgotten() -> Noop:
        return Noop("never reached")

    error = error_of(InThread(forgotten)).error
    assert "decide returned a coroutine (a decorator must keep `async def` visible)" in error


def test_an_async_generator_is_an_error() -> None:
    """A `yield` in decide makes it one."""

    class Yielding:
        async def decide(self, ctx: Context) -> Any:
            yield ACTION

    assert "decide returned a async_generator" in error_of(Yielding()).error


@ways
@pytest.mark.parametrize(
    "raised, text",
    [
        (KeyError("spot"), "KeyError: 'spot'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (GeneratorExit(), "GeneratorExit: "),
        (BaseException("bare"), "BaseException: bare"),
        (asyncio.CancelledError(), "CancelledError: "),
        (TimeoutError("late"), "TimeoutError: late"),
        (ExceptionGroup("both", [ValueError("a"), KeyError("b")]), "ExceptionGroup: both (2 sub-exceptions)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_raised_becomes_a_decide_error(way: type[Returning], raised: BaseException, text: str) -> None:
    """Of all kinds: none of them may end the worker."""
    error = error_of(way(raising(raised)))
    assert error.error == text
    assert "Traceback (most recent call last)" in error.trace
    assert "test_decide.py" in error.trace


def test_a_stop_iteration_in_a_thread_becomes_a_decide_error() -> None:
    """`next()` on nothing. Python 3.11 cannot carry it through a future: the call would hang until its deadline."""
    assert error_of(InThread(lambda: next(iter(())))).error == "StopIteration: "


def test_a_stop_iteration_in_the_loop_becomes_a_decide_error() -> None:
    """Python calls it a RuntimeError there."""
    assert error_of(InLoop(lambda: next(iter(())))).error.startswith("RuntimeError: coroutine raised StopIteration")


class UnspeakableError(Exception):
    """An exception that raises while it is shown."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")


@ways
def test_an_exception_that_cannot_be_shown_is_still_an_error(way: type[Returning]) -> None:
    """Its `__str__` is foreign code as well."""
    error = error_of(way(raising(UnspeakableError())))
    assert error.error == "UnspeakableError: (its text cannot be shown)"


@ways
def test_texts_of_an_error_are_bounded(way: type[Returning]) -> None:
    """Of the message the beginning counts, of the traceback the end."""
    error = error_of(way(raising(ValueError("x" * 100_000 + "end"))))
    assert len(error.error) == MAX_TEXT_LENGTH
    assert error.error.startswith("ValueError: xxx")
    assert len(error.trace) == MAX_TRACEBACK_LENGTH
    assert error.trace.endswith("xend\n")


@ways
def test_texts_of_an_error_can_always_be_sent(way: type[Returning]) -> None:
    """A lone surrogate in a message once made the answer itself impossible: the call waited for its deadline."""
    error = error_of(way(raising(ValueError("half \ud83d"))))
    assert error.error == "ValueError: half \\ud83d"
    assert error.trace.encode().endswith(b"half \\ud83d\n")


def test_a_runaway_recursion_is_an_error() -> None:
    """With a traceback that fits."""

    def forever() -> Any:
        return forever()

    assert error_of(InLoop(forever)).error.startswith("RecursionError: ")


def test_an_async_decide_runs_in_the_loop_and_a_plain_one_in_a_thread() -> None:
    """A plain `def` may block without holding up other calls."""
    ran_in: list[threading.Thread] = []

    def remember() -> Noop:
        ran_in.append(threading.current_thread())
        return Noop("quiet")

    outcome_of(InLoop(remember))
    outcome_of(InThread(remember))
    assert ran_in[0] is threading.main_thread()
    assert ran_in[1] is not threading.main_thread()
    assert [is_async(InLoop(remember).decide), is_async(InThread(remember).decide)] == [True, False]


def test_two_plain_decides_run_at_once() -> None:
    """Each waits for the other: one after the other they would never end."""
    meeting = threading.Barrier(2, timeout=10)

    class Meeting:
        def decide(self, ctx: Context) -> Noop:
            meeting.wait()
            return Noop("met")

    async def scenario() -> list[Outcome]:
        plugin = Meeting()
        return list(await asyncio.gather(decide(plugin.decide, CONTEXT), decide(plugin.decide, CONTEXT)))

    assert run_async(scenario()) == [Noop("met")] * 2


def test_decide_gets_the_context() -> None:
    """The very object."""

    class Echo:
        async def decide(self, ctx: Context) -> Noop:
            return Noop("same" if ctx is CONTEXT else "other")

    assert outcome_of(Echo()) == Noop("same")
