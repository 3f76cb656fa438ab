"""`runnerctl resume`: undoes one pause, or one reducing mode. Wider and narrower ones stay."""

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
  runnerctl resume --action main.mint
  runnerctl resume --all

It undoes the pause, or the reducing mode, of exactly this scope: a plugin that was paused by name stays paused after
`runnerctl resume --all`. What is still paused is printed."""
)
@click.argument("plugin", type=PluginName(), required=False)
@click.option("--vault", "--keeper", "vault", type=VaultName(), help="The pause of this vault, or of this keeper.")
@click.option("--all", "is_all", is_flag=True, help="The pause of everything.")
@click.option("--action", metavar="VAULT.ACTION", help="The pause of this action.")
@pass_target
def command(target: Target, plugin: str | None, vault: str | None, is_all: bool, action: str | None) -> None:
    """Undo a pause or reducing mode."""
    scope = chosen_scope(plugin, vault, is_all, action)
    done = fetch(target, Resume(scope=scope.kind, name=scope.name), Done)
    click.echo(printable(done.text))
