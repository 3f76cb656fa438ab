"""`runnerctl reduce`: only what lowers a risk goes on. It is durable, and acts at once."""

import click

from runnerd.cli.asking import PluginName, VaultName, fetch
from runnerd.cli.options import Target, pass_target
from runnerd.cli.scope import chosen_scope
from runnerd.control.messages import Done, Reduce
from runnerd.text import printable


@click.command(
    epilog="""\b
Examples:
  runnerctl reduce range-maker
  runnerctl reduce --vault main
  runnerctl reduce --all

From now on only actions that the catalogue marks with `reducing = true` are signed: a Decision with any
other is denied as a whole. Plugins go on being called. What is paused must be resumed first. Undo it with
`runnerctl resume`."""
)
@click.argument("plugin", type=PluginName(), required=False)
@click.option("--vault", "--keeper", "vault", type=VaultName(), help="All plugins of this vault, or of this keeper.")
@click.option("--all", "is_all", is_flag=True, help="Everything.")
@pass_target
def command(target: Target, plugin: str | None, vault: str | None, is_all: bool) -> None:
    """Let only actions pass that reduce a risk: of a plugin, a vault or all."""
    scope = chosen_scope(plugin, vault, is_all)
    done = fetch(target, Reduce(scope=scope.kind, name=scope.name), Done)
    click.echo(printable(done.text))
