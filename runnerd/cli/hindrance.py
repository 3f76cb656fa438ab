"""What keeps a plugin from acting right now, in sentences that end with what to do. Pure."""

from runnerd.cli.text import duration
from runnerd.control.messages import PluginStatus, Status


def hindrances(plugin: PluginStatus, status: Status) -> list[str]:
    """Each thing that stands in the way, the widest first. Empty: nothing does."""
    found = []
    if status.database != "connected":
        found.append(f"the database is {status.database}: no call can be recorded, so none is made")
    found += _of_vault(plugin, status)
    if plugin.paused:
        found.append(f"{plugin.paused}; to go on: runnerctl resume {_pause_scope(plugin, status)}")
    state = _of_state(plugin, status)
    if state is not None:
        found.append(state)
    if not plugin.triggers and plugin.state in {"ready", "unhealthy"}:
        found.append(f"it has no trigger: only `runnerctl fire {plugin.name}` calls it")
    if plugin.waiting:
        found.append(f"{plugin.waiting} calls wait in its queue while {plugin.deciding} are decided")
    return found


def _of_vault(plugin: PluginStatus, status: Status) -> list[str]:
    found = []
    for vault in status.vaults:
        if vault.name != plugin.vault:
            continue
        found += [
            f"chain {chain.name}: {chain.problem}"
            for chain in status.chains
            if chain.name == vault.chain and chain.problem
        ]
        if vault.problem:
            found.append(f"vault {vault.name} is refused: {vault.problem}")
        if vault.waiting_intents:
            found.append(f"{vault.waiting_intents} intents of vault {vault.name} wait for the chain; see: runnerctl tx")
    return found


def _pause_scope(plugin: PluginStatus, status: Status) -> str:
    """The argument of `resume` that undoes the pause which covers this plugin."""
    assert plugin.paused is not None
    if plugin.paused.startswith("everything"):
        return "--all"
    is_vault = any(vault.name == plugin.vault and vault.paused == plugin.paused for vault in status.vaults)
    return f"--vault {plugin.vault}" if is_vault else plugin.name


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
            return f"quarantined for {since}{because}; when it is mended: runnerctl restart {plugin.name}"
        case "stopped":
            return f"stopped for {since}{because}; to start it: runnerctl restart {plugin.name}"
        case state:
            return f"{state} for {since}{because}"
