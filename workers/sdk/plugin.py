"""What a plugin declares, and the check of it. The check runs in the worker at start and in a plugin's own unit tests.

Owns the rules for the class attributes only; running `decide` is `workers.decide`, importing code is `workers.loader`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from protocol.actions import NAME_RULE, Act, Action, Noop, is_name
from protocol.limits import MAX_JOBS, MAX_NAME_LENGTH, MAX_READS, MAX_TRIGGERS
from protocol.trigger import DEFAULT_JOB, TriggerBase
from protocol.triggers import Read, Trigger
from protocol.values import is_unicode
from workers.sdk.job import jobs_of

if TYPE_CHECKING:
    from workers.sdk.context import Context


Answer: TypeAlias = list[Action] | Act | Noop
"""What `decide` returns, or an `async def decide` in the end."""


class PluginError(Exception):
    """The plugin cannot be used as it is written. The text names the attribute and what it may hold."""


class Plugin:
    """Base class of a strategy. Subclass it, set the attributes, write `decide`.

    One instance lives as long as its worker process. `decide` may run several times at once (up to the operator's
    limit); a plain `def` runs in a thread, an `async def` in the worker's event loop. What must survive a restart
    belongs into `ctx.state`, not into `self`.
    """

    name: ClassVar[str]
    vault: ClassVar[str] = ""
    triggers: ClassVar[Sequence[Trigger]] = ()
    reads: ClassVar[Sequence[str | Read]] = ()

    def decide(self, ctx: "Context") -> "Answer | Awaitable[Answer]":
        """Look at `ctx` and answer: the Actions wanted (all in one transaction), or a Noop with the reason."""
        raise PluginError(f"{type(self).__name__} does not define decide(self, ctx)")

    # Methods marked with @job("name") are called for triggers with job="name", in the same way.


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a plugin class says of itself, checked."""

    name: str
    vault: str
    triggers: tuple[Trigger, ...]
    reads: tuple[Read, ...]
    jobs: Mapping[str, str]
    """The method of each job."""


def declaration_of(plugin: type) -> Declaration:
    """The checked declaration of a plugin class. Raises PluginError naming the attribute that is wrong."""
    name = getattr(plugin, "name", None)
    if not is_name(name):
        raise PluginError(f"{plugin.__name__}.name must be {NAME_RULE}, such as name = 'range-maker'")
    vault = getattr(plugin, "vault", "")
    if not isinstance(vault, str) or len(vault) > MAX_NAME_LENGTH or not is_unicode(vault):
        raise PluginError(f"{plugin.__name__}.vault must be a string, the name of a vault in the configuration")
    jobs = _jobs(plugin)
    return Declaration(
        name=str(name), vault=str(vault), triggers=_triggers(plugin, jobs), reads=_reads(plugin), jobs=jobs
    )


def _jobs(plugin: type) -> dict[str, str]:
    found = {**jobs_of(plugin)}
    if getattr(plugin, DEFAULT_JOB, None) is Plugin.decide:
        del found[DEFAULT_JOB]
    if not found:
        raise PluginError(f"{plugin.__name__} must define decide(self, ctx)")
    if len(found) > MAX_JOBS:
        raise PluginError(f"{plugin.__name__} has {len(found)} jobs, the limit is {MAX_JOBS}")
    for name, methods in found.items():
        if len(methods) > 1:
            raise PluginError(f"{plugin.__name__} has several methods for job {name!r}: {', '.join(methods)}")
        if not _takes_self_and_context(getattr(plugin, methods[0])):
            raise PluginError(f"{plugin.__name__}.{methods[0]} must take exactly (self, ctx)")
    return {name: methods[0] for name, methods in sorted(found.items())}


def _takes_self_and_context(method: Callable[..., object]) -> bool:
    if isinstance(method, FunctionType) and "__wrapped__" not in vars(method):
        # Written as most are, without a decorator: `inspect` would say the same, for 0.25 MiB of every worker.
        code = method.__code__
        has_more = code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        return code.co_argcount == 2 and not has_more
    try:
        signature = inspect.signature(method)
        signature.bind(None, None)
    except (TypeError, ValueError):  # other parameters, or none that can be found out
        return False
    return len(signature.parameters) == 2


def _triggers(plugin: type, jobs: Mapping[str, str]) -> tuple[Trigger, ...]:
    triggers = _sequence(plugin, "triggers", "a list of Cron(...), Event(...) and others")
    for trigger in triggers:
        if not isinstance(trigger, TriggerBase):
            allowed = "Cron(...), Event(...) and the others of workers.sdk.triggers"
            raise PluginError(f"{plugin.__name__}.triggers holds {trigger!r}; allowed are {allowed}")
        if trigger.job not in jobs:
            raise PluginError(f"{plugin.__name__}.triggers names job {trigger.job!r}; it has {', '.join(jobs)}")
    if len(triggers) > MAX_TRIGGERS:
        raise PluginError(f"{plugin.__name__}.triggers holds {len(triggers)}, the limit is {MAX_TRIGGERS}")
    return tuple(triggers)  # type: ignore[arg-type]  # checked one by one above


def _reads(plugin: type) -> tuple[Read, ...]:
    reads = []
    for read in _sequence(plugin, "reads", "a list of read names and Read(...)"):
        if not isinstance(read, str | Read):
            raise PluginError(f"{plugin.__name__}.reads holds {read!r}; allowed are names and Read(...)")
        try:
            reads.append(Read(read) if isinstance(read, str) else read)
        except ValueError as error:
            raise PluginError(f"{plugin.__name__}.reads holds {read!r}: {error}") from None
    if len(reads) > MAX_READS:
        raise PluginError(f"{plugin.__name__}.reads holds {len(reads)}, the limit is {MAX_READS}")
    keys = [read.key for read in reads]
    doubled = {key for key in keys if keys.count(key) > 1}
    if doubled:
        raise PluginError(f"{plugin.__name__}.reads names {sorted(doubled)} twice; give one an alias")
    return tuple(reads)


def _sequence(plugin: type, attribute: str, wanted: str) -> Sequence[object]:
    value = getattr(plugin, attribute, ())
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise PluginError(f"{plugin.__name__}.{attribute} must be {wanted}")
    return value
