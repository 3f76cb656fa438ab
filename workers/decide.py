"""Runs one `decide` and turns what it returns into an Outcome: the same code in a worker and in a unit test."""

import asyncio
import inspect
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeAlias

from protocol.actions import Act, Action, Noop, Outcome
from protocol.limits import MAX_TEXT_LENGTH, MAX_TRACEBACK_LENGTH
from workers.sdk.context import Context
from workers.sdk.plugin import PluginError


class DecideError(Exception):
    """`decide` raised, or returned something that is neither Actions nor a Noop. Carries both texts, bounded."""

    def __init__(self, error: str, trace: str = "") -> None:
        super().__init__(error)
        self.error = encodable(error)[:MAX_TEXT_LENGTH]
        self.trace = encodable(trace)[-MAX_TRACEBACK_LENGTH:]


Method: TypeAlias = Callable[[Context], Any]
"""A job of a plugin instance: `decide`, or one that is marked with `@job`."""


def is_async(method: Method) -> bool:
    """Whether a job runs in the event loop (`async def`) or in a thread (plain `def`)."""
    return inspect.iscoroutinefunction(method)


async def decide(method: Method, context: Context, threads: Executor | None = None) -> Outcome:
    """The checked outcome of one call. Raises DecideError for whatever goes wrong in the plugin's code."""
    try:
        if is_async(method):
            returned = await method(context)
        else:
            returned, raised = await asyncio.get_running_loop().run_in_executor(threads, _decide, method, context)
            if raised is not None:
                raise raised
        return _outcome(returned)
    except BaseException as error:  # the boundary to foreign code: SystemExit and friends must not end the worker
        raise DecideError(_text(error), trace_of(error)) from None


def encodable(text: str) -> str:
    """`text` with lone surrogates written out: an author's text about an error must never be what cannot be sent."""
    return text.encode(errors="backslashreplace").decode()


def trace_of(error: BaseException) -> str:
    """The traceback as text, empty if foreign code spoils even that."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # foreign code: an exception's own __str__ and attributes
        return ""


def _decide(method: Method, context: Context) -> tuple[object, BaseException | None]:
    """In a thread. The exception is returned: before Python 3.12 a StopIteration never leaves an executor's future."""
    try:
        return method(context), None
    except BaseException as error:  # the same boundary
        return None, error


def _outcome(returned: object) -> Outcome:
    if isinstance(returned, Act | Noop):
        return returned
    if isinstance(returned, list | tuple):
        for item in returned:
            if not isinstance(item, Action):
                raise PluginError(
                    f"decide returned a list that holds a {type(item).__name__}; only Actions may be in it"
                )
        return Act(actions=tuple(returned))
    hint = ""
    if inspect.iscoroutine(returned):
        returned.close()  # nobody will await it
        hint = " (a decorator must keep `async def` visible)"
    raise PluginError(
        f"decide returned a {type(returned).__name__}{hint}; "
        "it must return a list of Actions, an Act(actions, expect) or a Noop(reason)"
    )


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # foreign code again: an exception's own __str__
        return f"{type(error).__name__}: (its text cannot be shown)"
