"""`runnerctl restart PLUGIN`: a new worker for a plugin. runnerd itself is restarted by systemd."""

import click

from runnerd.cli.asking import PluginName, fetch
from runnerd.cli.options import Target, pass_target
from runnerd.control.messages import Done, Restart
from runnerd.text import printable


@click.command(
    epilog="""\b
Examples:
  runnerctl restart range-maker

Its worker is stopped in order (what it is deciding is finished within its grace) and a new one started, with
fresh code. Clears quarantine and the count of crashes. No other plugin notices."""
)
@click.argument("plugin", type=PluginName())
@pass_target
def command(target: Target, plugin: str) -> None:
    """Restart a plugin's worker; clears quarantine."""
    click.echo(printable(fetch(target, Restart(plugin=plugin), Done).text))
