"""`runnerctl why PLUGIN`: asks for all that bears on the question. How it looks is `why_view`."""

import click

from runnerd.cli.asking import PluginName, fetch
from runnerd.cli.exits import CliError
from runnerd.cli.hindrance import hindrances
from runnerd.cli.json_text import to_json
from runnerd.cli.options import Target, json_option, pass_target
from runnerd.cli.terminal import open_console
from runnerd.cli.why_view import Evidence, fold_calls, show_why
from runnerd.control.record_messages import GetHistory, GetRuns, History, Run, Runs
from runnerd.control.status_messages import GetStatus, Status

FOLDED = (5, 100)
"""Equal calls are shown as one, so more are asked for than are shown; many more if those were nearly all equal."""
MAX_LIMIT = 1_000


@click.command(
    epilog="""\b
Examples:
  runnerctl why range-maker
  runnerctl why range-maker -n 50
  runnerctl why range-maker --json | jq '.hindrances'

Newest first, times in UTC. Calls in a row that ended alike are shown as one."""
)
@click.argument("plugin", type=PluginName())
@click.option(
    "-n", "limit", type=click.IntRange(1, MAX_LIMIT), default=10, show_default=True, help="How many lines of calls."
)
@json_option
@pass_target
def command(target: Target, plugin: str, limit: int, as_json: bool) -> None:
    """Why a plugin acted, or did not.

    First what hinders it now; then its last calls: the reason, the actions it asked for, and what became of them,
    between the crashes, quarantines and denied system calls of its workers.
    """
    status = fetch(target, GetStatus(), Status)
    found = next((one for one in status.plugins if one.name == plugin), None)
    if found is None:
        names = ", ".join(one.name for one in status.plugins) or "none"
        raise CliError(f"there is no plugin {plugin!r}; there are: {names}")
    runs, has_all_runs = _runs(target, plugin, limit)
    events = fetch(target, GetHistory(plugin=plugin, limit=limit), History).events
    evidence = Evidence(plugin=found, status=status, runs=runs, events=events, has_all_runs=has_all_runs)
    if as_json:
        click.echo(to_json(_as_data(evidence)))
    else:
        show_why(open_console(), evidence, limit)


def _as_data(evidence: Evidence) -> dict[str, object]:
    """The whole evidence, nothing folded: a program does that for itself."""
    return {
        "plugin": evidence.plugin,
        "hindrances": hindrances(evidence.plugin, evidence.status),
        "runs": evidence.runs,
        "events": evidence.events,
    }


def _runs(target: Target, plugin: str, limit: int) -> tuple[list[Run], bool]:
    """Enough calls for `limit` lines, if there are so many; whether these are all there are."""
    runs: list[Run] = []
    for factor in FOLDED:
        asked = min(limit * factor, MAX_LIMIT)
        if len(runs) >= asked:
            break
        try:
            runs = fetch(target, GetRuns(plugin=plugin, limit=asked), Runs).runs
        except CliError:
            if not runs:
                raise
            break  # so many, with their payloads, are more than one answer holds
        if len(runs) < asked:
            return runs, True
        if len([*fold_calls(runs)]) >= limit:
            break
    return runs, False
