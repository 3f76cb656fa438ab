"""What is wrong with parts that an application brings in code, in words. Pure; `builder` asks.

The type checker of the application sees most of it. Who has none learns it here, and not from what runs with it later.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec

from protocol.names import NAME_RULE, is_name
from runnerd.config.explain import explain
from runnerd.config.routing import RouterConfig
from runnerd.services.service import Restart, ServicePolicy

MAX_SECONDS = 86_400


def find_misfits(kind: str, name: object, factory: object, built_in: Sequence[str], *, is_taken: bool) -> list[str]:
    """Of a part under its name."""
    problems = []
    if not is_name(name):
        problems.append(f"{kind} {name!r}: a name is {NAME_RULE}")
    if name in built_in:
        problems.append(f"{kind} {name!r}: this is the name of one that runnerd has")
    if is_taken:
        problems.append(f"{kind} {name!r}: there are two of this name")
    if not callable(factory):
        problems.append(f"{kind} {name!r}: {factory!r} is no factory to be called with its tools")
    return problems


def find_policy_misfits(name: str, policy: object) -> list[str]:
    """Of a service's policy: what `[services.NAME]` could not say either."""
    if not isinstance(policy, ServicePolicy):
        return [f"service {name!r}: policy is {policy!r}, and no ServicePolicy"]
    problems = []
    restart: object = policy.restart
    if not isinstance(restart, Restart):
        allowed = ", ".join(f"Restart.{one.name}" for one in Restart)
        problems.append(f"service {name!r}: policy.restart is {restart!r}; allowed: {allowed}")
    seconds: dict[str, object] = {
        field.name: getattr(policy, field.name) for field in fields(policy) if field.name.endswith("_s")
    }
    wrong = [key for key, value in seconds.items() if not _is_seconds(value)]
    for key in wrong:
        text = f"policy.{key} is {seconds[key]!r}; allowed: more than 0, at most {MAX_SECONDS}"
        problems.append(f"service {name!r}: {text}")
    if not wrong and policy.backoff_first_s > policy.backoff_max_s:
        problems.append(f"service {name!r}: policy.backoff_first_s is above policy.backoff_max_s")
    return problems


def read_router(always: Sequence[object], fallback: object, layers: object) -> RouterConfig | list[str]:
    """Routes and limits as `[router]` has them, or what is wrong with them: a Struct that is made in code is not
    checked by anybody."""
    given = {"always": list(always), "fallback": fallback, "layers": layers}
    try:
        raw: Any = msgspec.to_builtins({key: value for key, value in given.items() if value is not None})
        return msgspec.convert(raw, RouterConfig, strict=True)
    except msgspec.ValidationError as error:
        return [str(problem) for problem in explain(raw, RouterConfig, "router")] or [f"router: {error}"]
    except TypeError as error:
        return [f"router: {error}"]


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS
