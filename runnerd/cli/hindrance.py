"""What keeps a plugin from acting right now, in sentences that end with what to do. Pure."""

from typing import Final

from runnerd.cli.text import duration
from runnerd.control.status_messages import PluginStatus, Status

SWITCHED_OFF: Final = "enabled = false"
CHAIN_AWAITED: Final = "its chain has not answered yet"
"""Reasons that `runnerd.plugins` gives; `runnerctl restart` is refused for both."""


def hindrances(plugin: PluginStatus, status: Status) -> list[str]:
    """Each thing that stands in the way, the widest first. Empty: nothing does."""
    found = []
    if status.database != "connected":
        found.append(f"the database is {status.database}: no call can be recorded, so none is made")
    found += _of_vault(plugin, status)
    if plugin.paused:
        found.append(f"{plugin.paused}; to go on: runnerctl resume {_pause_scope(plugin.paused, plugin, status)}")
    elif plugin.reducing:
        scope = _pause_scope(plugin.reducing, plugin, status)
        found.append(f"only reducing actions pass: {plugin.reducing}; to go on: runnerctl resume {scope}")
    state = _of_state(plugin, status)
    if state is not None:
        found.append(state)
    if not plugin.triggers and plugin.state in {"ready", "unhealthy"}:
        found.append(f"it has no trigger: only `runnerctl fire {plugin.name}` calls it")
    if plugin.waiting:
        found.append(f"{plugin.waiting} calls wait in its queue while {plugin.deciding} are decided")
    return found


def _of_vault(plugin: PluginStatus, status: Status) -> list[str]:
    place = status.place_of(plugin)
    if place is None:
        return []
    what = f"{place_kind(plugin)} {place.name}"
    found = [
        f"chain {chain.name}: {chain.problem}" for chain in status.chains if chain.name == place.chain and chain.problem
    ]
    if place.problem:
        found.append(f"{what} is refused: {place.problem}")
    found += [f"action {name} is paused; to go on: runnerctl resume --action {name}" for name in place.paused_actions]
    if place.waiting_intents:
        found.append(f"{place.waiting_intents} intents of {what} wait for the chain; see: runnerctl tx")
    return found


def place_kind(plugin: PluginStatus) -> str:
    """What it acts for, in a word."""
    return "keeper" if plugin.role == "keeper" else "vault"


def _pause_scope(switch: str, plugin: PluginStatus, status: Status) -> str:
    """The argument of `resume` that undoes the switch which covers this plugin."""
    if switch.startswith("everything"):
        return "--all"
    place = status.place_of(plugin)
    is_place = place is not None and switch in (place.paused, place.reducing)
    return f"--{place_kind(plugin)} {plugin.vault}" if is_place else plugin.name


def _of_state(plugin: PluginStatus, status: Status) -> str | None:
    since = duration((status.now - plugin.since).total_seconds())
    because = f": {plugin.reason}" if plugin.reason else ""
    match plugin.state:
        case "ready":
            return None
        case "unhealthy":
            return f"unhealthy for {since}, so it skips ticks between trials{because}"
        case "backoff":
            return f"its worker crashed and is started again shortly (waiting for {since}){because}"
        case "quarantined":
            return f"quarantined for {since}{because}; {_to_lift(plugin, status)}"
        case "stopped":
            return f"stopped for {since}{because}; {_to_start(plugin)}"
        case state:
            return f"{state} for {since}{because}"


def _to_lift(plugin: PluginStatus, status: Status) -> str:
    """A vault or chain that was refused is looked at once, at the start: until then `restart` is refused as well."""
    if _is_refused(plugin, status):
        return "when the cause is mended, restart runnerd: systemctl restart runnerd"
    return f"when it is mended: runnerctl restart {plugin.name}"


def _to_start(plugin: PluginStatus) -> str:
    if plugin.reason == SWITCHED_OFF:
        return f"set enabled = true in [plugins.{plugin.name}], then: systemctl reload runnerd"
    if plugin.reason == CHAIN_AWAITED:
        return "it starts by itself when the node answers; check the node: runnerctl doctor"
    return f"to start it: runnerctl restart {plugin.name}"


def _is_refused(plugin: PluginStatus, status: Status) -> bool:
    place = status.place_of(plugin)
    if place is None:
        return False
    problems = [place.problem, *(chain.problem for chain in status.chains if chain.name == place.chain)]
    return plugin.reason in [problem for problem in problems if problem]
