"""All that a plugin author imports. A plugin is a class with `name`, `vault`, `triggers`, `reads` and `decide(ctx)`.

    from workers.sdk import Action, Cron, Noop, Plugin

`workers.testing` runs a plugin as a pure function in a unit test.
"""

from protocol.actions import Act, Action, Noop
from protocol.expectations import BalanceChange, MinimumOut, SharePrice
from protocol.messages import BlockRef, Call, TriggerKind, VaultRef
from protocol.triggers import Block, Cron, Custom, Event, Metric, Read, Webhook
from workers.sdk import triggers
from workers.sdk.context import Context, Log
from workers.sdk.job import job
from workers.sdk.plugin import Plugin, PluginError
from workers.sdk.state import BlockingState, State

__all__ = [
    "Act",
    "Action",
    "BalanceChange",
    "Block",
    "BlockRef",
    "BlockingState",
    "Call",
    "Context",
    "Cron",
    "Custom",
    "Event",
    "Log",
    "Metric",
    "MinimumOut",
    "Noop",
    "Plugin",
    "PluginError",
    "Read",
    "SharePrice",
    "State",
    "TriggerKind",
    "VaultRef",
    "Webhook",
    "job",
    "triggers",
]
