"""Jobs: what a plugin can be called for. `decide` is one; methods that are marked with `@job("name")` are others."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from protocol.names import NAME_RULE, is_name
from protocol.trigger import DEFAULT_JOB

_MARK: Final = "__runnerd_job__"

Method = TypeVar("Method", bound=Callable[..., Any])


def job(name: str) -> Callable[[Method], Method]:
    """Mark a method as the plugin's job `name`: triggers that say `job="name"` call it, as others call `decide`.

    The method takes (self, ctx) and answers as `decide` does. Raises ValueError for a name that is none.
    """
    if not is_name(name):
        raise ValueError(f"the name of a job must be {NAME_RULE}")

    def mark(method: Method) -> Method:
        setattr(method, _MARK, name)
        return method

    return mark


def jobs_of(plugin: type) -> Mapping[str, list[str]]:
    """The attributes of a plugin class by the name of their job; more than one where two have the same name."""
    found: dict[str, list[str]] = {}
    if callable(getattr(plugin, DEFAULT_JOB, None)):
        found[DEFAULT_JOB] = [DEFAULT_JOB]
    for attribute in dir(plugin):
        name = getattr(getattr(plugin, attribute, None), _MARK, None)
        if isinstance(name, str):
            found.setdefault(name, []).append(attribute)
    return found
