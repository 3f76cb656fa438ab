"""Whether a worker's Hello fits what its host started and what the operator wrote. Called by `host`."""

from collections.abc import Collection

from protocol.messages import Hello
from protocol.triggers import Custom, Metric
from runnerd.config.extensions import custom_problem
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.context import Snapshots
from runnerd.supervisor.machine import WorkerState
from runnerd.triggers import schedule
from runnerd.triggers.chain_check import chain_problem
from runnerd.triggers.source import TWICE, doubled, source_of


def hello_problem(
    hello: Hello,
    digest: str,
    name: str,
    config: PluginConfig,
    state: WorkerState,
    snapshots: Snapshots,
    chains: Collection[str] | None = None,
    producers: Collection[str] | None = None,
) -> str | None:
    """Why plugin `name` may not run as it says Hello, and what to do about it; None if it may.

    `digest`: of its code, as its worker reported it before the code ran. What is recorded is the Hello's, so it has
    to be the same. `chains`, `producers` of third parties: the configured ones, None where that is not known.
    """
    if hello.generation != state.generation:
        return f"bad protocol: Hello of generation {hello.generation}, this is {state.generation}"
    if hello.digest != digest:
        return f"bad protocol: Hello of code {hello.digest}, born was {digest}"
    if hello.plugin != (config.class_name or name):
        hint = f"set class_name = {hello.plugin!r} under [plugins.{name}]"
        return f"the class calls itself {hello.plugin!r}: {hint}"
    if hello.vault and hello.vault != config.vault:
        given = repr(config.vault) if config.role == "operator" else f"none: it is a keeper, of {config.keeper!r}"
        return f"the class is written for vault {hello.vault!r}, the configuration gives it {given}"
    for trigger in hello.triggers if config.triggers is None else config.triggers:
        if trigger.job not in hello.jobs:
            return f"{source_of(trigger)}: the class has no job {trigger.job!r}; it has {', '.join(hello.jobs)}"
    twice = doubled(hello.triggers if config.triggers is None else config.triggers)
    if twice is not None:
        return f"the trigger {source_of(twice)} {TWICE}"
    for trigger in hello.triggers if config.triggers is None else ():
        try:
            schedule.check(trigger)
        except schedule.ScheduleError as error:
            return str(error)
        problem = chain_problem(trigger, chains)
        if problem is not None:
            return f"the trigger {source_of(trigger)}: {problem[0]}: {problem[1]}"
        if isinstance(trigger, Custom) and producers is not None:
            unserved = custom_problem(trigger, producers)
            if unserved is not None:
                return f"the trigger {source_of(trigger)}: producer: {unserved}"
    triggers = hello.triggers if config.triggers is None else config.triggers
    metrics = [trigger.read for trigger in triggers if isinstance(trigger, Metric)]
    return snapshots.check(config.place, [*hello.reads, *metrics])
