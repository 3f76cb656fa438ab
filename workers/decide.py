"""Runs one `decide` and turns what it returns into an Outcome: the same code in a worker and in a unit test."""

import asyncio
import inspect
import traceback
from concurrent.futures import Executor
from typing import Any

from protocol.actions import Act, Action, Noop, Outcome
from protocol.limits import MAX_TEXT_LENGTH, MAX_TRACEBACK_LENGTH
from workers.sdk.context import Context
from workers.sdk.plugin import PluginError


class DecideError(Exception):
    """`decide` raised, or returned something that is neither Actions nor a Noop. Carries both texts, bounded."""

    def __init__(self, error: str, trace: str = "") -> None:
        super().__init__(error)
        self.error = error[:MAX_TEXT_LENGTH]
        self.trace = trace[-MAX_TRACEBACK_LENGTH:]


def is_async(plugin: Any) -> bool:
    """Whether `decide` runs in the event loop (`async def`) or in a thread (plain `def`)."""
    return inspect.iscoroutinefunction(plugin.decide)


async def decide(plugin: Any, context: Context, threads: Executor | None = None) -> Outcome:
    """The checked outcome of one call. Raises DecideError for whatever goes wrong in the plugin's code."""
    try:
        if is_async(plugin):
            returned = await plugin.decide(context)
        else:
            returned = await asyncio.get_running_loop().run_in_executor(threads, plugin.decide, context)
        return _outcome(returned)
    except BaseException as error:  # the boundary to foreign code: SystemExit and friends must not end the worker
        raise DecideError(f"{type(error).__name__}: {_text(error)}", _trace(error)) from None


def _outcome(returned: object) -> Outcome:
    if isinstance(returned, Noop):
        return returned
    if isinstance(returned, list | tuple):
        for item in returned:
            if not isinstance(item, Action):
                raise PluginError(
                    f"decide returned a list that holds a {type(item).__name__}; only Actions may be in it"
                )
        return Act(actions=tuple(returned))
    raise PluginError(
        f"decide returned a {type(returned).__name__}; it must return a list of Actions or a Noop(reason)"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # foreign code again: an exception's own __str__
        return "(its text cannot be shown)"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # as above
        return ""
