"""`runnerctl resume`: undoes one pause. Wider and narrower pauses stay."""

import click

from runnerd.cli.asking import PluginName, VaultName, fetch
from runnerd.cli.options import Target, pass_target
from runnerd.cli.scope import chosen_scope
from runnerd.control.messages import Done, Resume
from runnerd.text import printable


@click.command(
    epilog="""\b
Examples:
  runnerctl resume range-maker
  runnerctl resume --vault main
  runnerctl resume --all

It undoes the pause of exactly this scope: a plugin that was paused by name stays paused after
`runnerctl resume --all`. What is still paused is printed."""
)
@click.argument("plugin", type=PluginName(), required=False)
@click.option("--vault", type=VaultName(), help="The pause of this vault.")
@click.option("--all", "is_all", is_flag=True, help="The pause of everything.")
@pass_target
def command(target: Target, plugin: str | None, vault: str | None, is_all: bool) -> None:
    """Undo a pause."""
    scope = chosen_scope(plugin, vault, is_all)
    done = fetch(target, Resume(scope=scope.kind, name=scope.name), Done)
    click.echo(printable(done.text))
